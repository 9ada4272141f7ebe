//! One parameter's section of a payload: how it is written, read and checked (docs/native-container.md, "Section").
//!
//! A section is the parameter's name and shape, a fixed head, the quantiser's table, the lengths of the restart groups, and three streams: codes, low bits of
//! the gaps, and the gaps' quotients in unary. Codes and low bits have fixed widths, so any chunk's are found by arithmetic; the
//! unary stream restarts every [`GROUP_CHUNKS`] chunks.
//!
//! What always holds for a [`Section`]: it was checked as a whole against the layout, so decoding it cannot fail, and no other
//! bytes encode the same content. Nothing larger than the layout's own bounds is ever allocated for it.

use crate::{
    Refusal,
    bits::{FieldWriter, Ones, read_fields, simd, sum_fields, word_at},
    layout::{GROUP_CHUNKS, Layout, MAX_BINS, ParamLayout},
};
use rayon::prelude::*;
use std::ops::Range;

/// Largest absolute value of a quantiser table's entry. Larger values are clipped by the sender and stay in its residual.
pub const MAX_TABLE: f32 = 1_048_576.0;

/// Bytes of a section's head before its table.
const HEAD_BYTES: usize = 10;

/// A quantiser's table: the mean of all values, and the mean of each level relative to it (spec wire-protocol §3).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Table {
    /// Mean of all values.
    pub shift: f32,
    /// Mean of the values of each code, relative to `shift`; 0 for a code that no value has.
    pub lookup: [f32; MAX_BINS],
}

impl Table {
    /// The value that each code stands for: `lookup[code] + shift` in float32.
    pub fn levels(&self) -> [f32; MAX_BINS] {
        self.lookup.map(|mean| mean + self.shift)
    }
}

/// The checked section of one parameter; ranges are into the payload.
#[derive(Clone, Debug)]
pub struct Section {
    /// The quantiser's table.
    pub table: Table,
    /// How many values have each code.
    pub histogram: [u64; MAX_BINS],
    /// Bits of the low part of a gap.
    pub rice: u32,
    codes: Range<usize>,
    lows: Range<usize>,
    /// Byte offsets of the unary groups: one more than there are groups.
    groups: Vec<usize>,
}

impl Section {
    /// The L2 norm of all values sent, in float64 from the histogram.
    pub fn norm(&self) -> f64 {
        let levels = self.table.levels();
        let squares = levels.iter().zip(&self.histogram).map(|(level, count)| *count as f64 * f64::from(*level) * f64::from(*level));
        squares.fold(0.0, |sum, square| sum + square).sqrt()
    }

    /// Bytes of the section's streams, for inspection: codes, low bits, unary.
    pub fn stream_bytes(&self) -> [usize; 3] {
        let unary = self.groups.last().zip(self.groups.first()).map_or(0, |(end, start)| end - start);
        [self.codes.len(), self.lows.len(), unary]
    }
}

/// The parameter's name and shape as a section begins with them, so that an object can be read without its run.
fn title(layout: &Layout, param: &ParamLayout) -> Vec<u8> {
    let kind = u8::from(!param.vector) | u8::from(layout.config().use_dct) << 1;
    let mut title = vec![kind];
    title.extend((param.name.len() as u16).to_le_bytes());
    title.extend(param.name.as_bytes());
    title.extend((param.rows as u32).to_le_bytes());
    title.extend((param.cols as u32).to_le_bytes());
    title.extend((param.chunk_rows as u16).to_le_bytes());
    title
}

/// Bytes of a title without the name.
const TITLE_BYTES: usize = 13;

/// Bytes before a section's streams.
fn fixed_bytes(param: &ParamLayout, bins: usize) -> usize {
    TITLE_BYTES + param.name.len() + HEAD_BYTES + 4 + 4 * bins + 4 * param.groups()
}

fn codes_bytes(param: &ParamLayout, code_bits: usize) -> usize {
    (param.sent() * code_bits).div_ceil(8)
}

fn lows_bytes(param: &ParamLayout, rice: u32) -> usize {
    if param.is_dense() { 0 } else { (param.sent() * rice as usize).div_ceil(8) }
}

/// Most bytes of a unary group of `chunks` chunks: the ones, and as many zeros as the gaps of a chunk can hold quotients.
fn max_group_bytes(param: &ParamLayout, chunks: usize, rice: u32) -> usize {
    (chunks * (param.k + ((param.chunk_len() - param.k) >> rice))).div_ceil(8)
}

/// Most bytes that a section of `param` can have, for any content.
pub fn max_section_bytes(layout: &Layout, param: &ParamLayout) -> usize {
    let fixed = fixed_bytes(param, layout.config().bins) + codes_bytes(param, layout.code_bits());
    let most = |rice| lows_bytes(param, rice) + max_unary_bytes(param, rice);
    fixed + (0..=max_rice(param)).map(most).max().unwrap_or(0)
}

/// Most bytes of all unary groups together: by the rule for the Rice parameter, quotients sum to at most 133/64 of the values.
fn max_unary_bytes(param: &ParamLayout, rice: u32) -> usize {
    let by_room: usize = (0..param.groups()).map(|g| max_group_bytes(param, param.group_chunks(g), rice)).sum();
    let by_rule = (param.sent() + param.sent() * 133 / 64).div_ceil(8) + param.groups();
    by_room.min(by_rule)
}

fn max_rice(param: &ParamLayout) -> u32 {
    rice_for(param.sent() as u64, (param.chunks() * (param.chunk_len() - param.k)) as u64)
}

/// The one Rice parameter for `values` gaps that sum to `gaps`: the least `b` with `2^b >= 0.4812 · mean gap`, which is best for
/// geometric gaps. A fixed rule in integers, so that one content has one encoding.
fn rice_for(values: u64, gaps: u64) -> u32 {
    (0..12).find(|b| (values << b) * 133 >= gaps * 64).unwrap_or(12)
}

/// What a section is made of, chunk after chunk: ascending positions and codes of the values sent.
pub(crate) struct Content<'a> {
    pub(crate) table: Table,
    pub(crate) positions: &'a [u16],
    pub(crate) codes: &'a [u8],
}

/// Appends the section of `param` to `payload`, in parallel over groups.
pub(crate) fn write(layout: &Layout, param: &ParamLayout, content: &Content, payload: &mut Vec<u8>) {
    let k = param.k;
    let per_group = GROUP_CHUNKS * k;
    let gaps: u64 = content
        .positions
        .par_chunks(per_group)
        .map(|group| group.chunks_exact(k).map(|c| u64::from(c[k - 1]) + 1 - k as u64).sum::<u64>())
        .sum();
    let rice = if param.is_dense() { 0 } else { rice_for(param.sent() as u64, gaps) };
    let bins = layout.config().bins;
    let start = payload.len();
    payload.extend(title(layout, param));
    payload.extend((param.chunks() as u32).to_le_bytes());
    payload.extend((k as u16).to_le_bytes());
    payload.extend((param.chunk_len() as u16).to_le_bytes());
    payload.extend([bins as u8, rice as u8]);
    payload.extend(content.table.shift.to_le_bytes());
    content.table.lookup[..bins].iter().for_each(|mean| payload.extend(mean.to_le_bytes()));
    let lengths_at = payload.len();
    let codes_at = start + fixed_bytes(param, bins);
    let lows_at = codes_at + codes_bytes(param, layout.code_bits());
    payload.resize(lows_at + lows_bytes(param, rice), 0);
    let (codes_out, lows_out) = payload[codes_at..].split_at_mut(lows_at - codes_at);
    let width = layout.code_bits() as u32;
    codes_out
        .par_chunks_mut(per_group * width as usize / 8)
        .zip(content.codes.par_chunks(per_group))
        .for_each(|(out, codes)| write_codes(out, codes, width));
    if param.is_dense() {
        return;
    }
    // A group of 256 chunks is a whole number of bytes in every fixed-width stream.
    let low_groups: Vec<&mut [u8]> = if rice == 0 {
        (0..param.groups()).map(|_| &mut [][..]).collect()
    } else {
        lows_out.chunks_mut(per_group * rice as usize / 8).collect()
    };
    let groups: Vec<Vec<u8>> = low_groups
        .into_par_iter()
        .zip(content.positions.par_chunks(per_group))
        .map(|(lows, positions)| write_gaps(param, rice, lows, positions))
        .collect();
    for (group, bytes) in groups.iter().enumerate() {
        payload[lengths_at + 4 * group..][..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        payload.extend_from_slice(bytes);
    }
}

fn write_codes(out: &mut [u8], codes: &[u8], width: u32) {
    let mut writer = FieldWriter::new(out);
    codes.iter().for_each(|code| writer.push(u16::from(*code), width));
    writer.finish();
}

/// Writes the gaps of one group: low bits into `lows`, and returns the unary stream.
fn write_gaps(param: &ParamLayout, rice: u32, lows: &mut [u8], positions: &[u16]) -> Vec<u8> {
    let mut unary = vec![0; max_group_bytes(param, positions.len() / param.k, rice)];
    let mut writer = FieldWriter::new(lows);
    let mut bit = 0;
    let mask = (1u16 << rice) - 1;
    for chunk in positions.chunks_exact(param.k) {
        let mut next = 0;
        for position in chunk {
            let gap = position - next;
            next = position + 1;
            writer.push(gap & mask, rice);
            bit += usize::from(gap >> rice);
            unary[bit >> 3] |= 1 << (bit & 7);
            bit += 1;
        }
    }
    writer.finish();
    unary.truncate(bit.div_ceil(8));
    unary
}

/// Takes bytes from the front of a payload without ever passing its end.
pub(crate) struct Cursor<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) at: usize,
}

impl Cursor<'_> {
    pub(crate) fn range(&mut self, len: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.payload.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let range = self.range(N)?;
        self.payload[range].first_chunk::<N>().copied()
    }
}

/// Reads and checks all sections of a payload, in parallel.
///
/// # Errors
/// [`Refusal::Malformed`] with the first parameter whose section is not the one encoding of a valid content.
pub fn read_all(layout: &Layout, payload: &[u8]) -> Result<Vec<Section>, Refusal> {
    let mut cursor = Cursor { payload, at: 0 };
    let mut sections = Vec::with_capacity(layout.params().len());
    for param in layout.params() {
        let head = read_head(layout, param, &mut cursor);
        sections.push(head.map_err(|why| Refusal::Malformed { param: param.name.clone(), why })?);
    }
    if cursor.at != payload.len() {
        let param = layout.params().last().map_or_else(String::new, |p| p.name.clone());
        return Err(Refusal::Malformed { param, why: "bytes follow the last section" });
    }
    sections.par_iter_mut().zip(layout.params()).try_for_each(|(section, param)| {
        check(layout, param, payload, section).map_err(|why| Refusal::Malformed { param: param.name.clone(), why })
    })?;
    Ok(sections)
}

/// Reads a section's head and finds its streams; nothing of the streams is looked at.
pub(crate) fn read_head(layout: &Layout, param: &ParamLayout, cursor: &mut Cursor) -> Result<Section, &'static str> {
    const SHORT: &str = "the payload ends within the section";
    let bins = layout.config().bins;
    let title = title(layout, param);
    if cursor.payload[cursor.range(title.len()).ok_or(SHORT)?] != title {
        return Err("its name, shape or transform is not that of the run's model");
    }
    let chunks = u32::from_le_bytes(cursor.take().ok_or(SHORT)?);
    let k = u16::from_le_bytes(cursor.take().ok_or(SHORT)?);
    let chunk_len = u16::from_le_bytes(cursor.take().ok_or(SHORT)?);
    let [found_bins, rice] = cursor.take().ok_or(SHORT)?;
    if (chunks as usize, usize::from(k), usize::from(chunk_len)) != (param.chunks(), param.k, param.chunk_len()) {
        return Err("its chunk count, chunk length or count of values per chunk is not that of the run's model");
    }
    if usize::from(found_bins) != bins {
        return Err("its quantiser has another number of levels than the run");
    }
    let rice = u32::from(rice);
    if rice > if param.is_dense() { 0 } else { max_rice(param) } {
        return Err("its Rice parameter is out of range");
    }
    let mut table = Table { shift: table_entry(cursor.take().ok_or(SHORT)?)?, ..Table::default() };
    for mean in &mut table.lookup[..bins] {
        *mean = table_entry(cursor.take().ok_or(SHORT)?)?;
    }
    let mut lengths = Vec::with_capacity(param.groups());
    for group in 0..param.groups() {
        let len = u32::from_le_bytes(cursor.take().ok_or(SHORT)?) as usize;
        if len > max_group_bytes(param, param.group_chunks(group), rice) {
            return Err("a restart group is longer than its chunks can need");
        }
        lengths.push(len);
    }
    let codes = cursor.range(codes_bytes(param, layout.code_bits())).ok_or(SHORT)?;
    let lows = cursor.range(lows_bytes(param, rice)).ok_or(SHORT)?;
    let mut groups = vec![cursor.at];
    for len in lengths {
        groups.push(cursor.range(len).ok_or(SHORT)?.end);
    }
    Ok(Section { table, histogram: [0; MAX_BINS], rice, codes, lows, groups })
}

fn table_entry(bytes: [u8; 4]) -> Result<f32, &'static str> {
    let value = f32::from_le_bytes(bytes);
    if value.is_nan() || value.abs() > MAX_TABLE {
        return Err("its quantiser table has an entry that is not finite or is absurdly large");
    }
    if value == 0.0 && value.is_sign_negative() {
        return Err("its quantiser table has a negative zero");
    }
    Ok(value)
}

/// Checks a section's streams and fills in the histogram.
fn check(layout: &Layout, param: &ParamLayout, payload: &[u8], section: &mut Section) -> Result<(), &'static str> {
    let bins = layout.config().bins;
    let code_bits = layout.code_bits();
    if !padding_is_zero(&payload[section.codes.clone()], param.sent() * code_bits) {
        return Err("the padding of its codes is not zero");
    }
    section.histogram = histogram(&payload[section.codes.clone()], param.sent(), code_bits as u32);
    if section.histogram[bins..].iter().any(|count| *count > 0) {
        return Err("a code has no entry in the quantiser's table");
    }
    if section.histogram[..bins].iter().zip(&section.table.lookup).any(|(count, mean)| *count == 0 && *mean != 0.0) {
        return Err("its quantiser table has an entry for a code that no value has");
    }
    if param.is_dense() {
        return Ok(());
    }
    if !padding_is_zero(&payload[section.lows.clone()], param.sent() * section.rice as usize) {
        return Err("the padding of its low bits is not zero");
    }
    let lows = &payload[section.lows.clone()];
    let group_sum =
        |group: usize| check_group(param, section.rice, lows, &payload[section.groups[group]..section.groups[group + 1]], group);
    let gaps = (0..param.groups()).into_par_iter().map(group_sum).try_reduce(|| 0, |a, b| Ok(a + b))?;
    if rice_for(param.sent() as u64, gaps) != section.rice {
        return Err("its Rice parameter is not the one that its gaps call for");
    }
    Ok(())
}

fn padding_is_zero(bytes: &[u8], used_bits: usize) -> bool {
    used_bits.is_multiple_of(8) || bytes.last().is_none_or(|last| last >> (used_bits % 8) == 0)
}

/// Counts the codes of `count` values.
fn histogram(bytes: &[u8], count: usize, width: u32) -> [u64; MAX_BINS] {
    if width == 2 {
        return simd(
            #[inline(always)]
            || histogram_of_pairs(bytes, count),
        );
    }
    let mut counts = [0; MAX_BINS];
    let mut codes = [0; 256];
    for first in (0..count).step_by(256) {
        let codes = &mut codes[..(count - first).min(256)];
        read_fields(bytes, first * width as usize, width, codes);
        codes.iter().for_each(|code| counts[usize::from(*code)] += 1);
    }
    counts
}

#[inline(always)]
fn histogram_of_pairs(bytes: &[u8], count: usize) -> [u64; MAX_BINS] {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let (mut ones, mut twos, mut threes) = (0, 0, 0);
    for at in (0..bytes.len()).step_by(8) {
        let word = word_at(bytes, at);
        let (low, high) = (word & EVEN, (word >> 1) & EVEN);
        threes += u64::from((low & high).count_ones());
        ones += u64::from((low & !high).count_ones());
        twos += u64::from((high & !low).count_ones());
    }
    let mut counts = [0; MAX_BINS];
    counts[..4].copy_from_slice(&[count as u64 - ones - twos - threes, ones, twos, threes]);
    counts
}

/// Checks one restart group and gives the sum of its gaps.
fn check_group(param: &ParamLayout, rice: u32, lows: &[u8], unary: &[u8], group: usize) -> Result<u64, &'static str> {
    simd(
        #[inline(always)]
        || check_group_inner(param, rice, lows, unary, group),
    )
}

#[inline(always)]
fn check_group_inner(param: &ParamLayout, rice: u32, lows: &[u8], unary: &[u8], group: usize) -> Result<u64, &'static str> {
    let k = param.k;
    let room = param.chunk_len() - k;
    let mut ones = Ones::new(unary);
    let (mut end, mut total) = (0, 0);
    for chunk in 0..param.group_chunks(group) {
        let last = ones.nth(k).ok_or("its index stream ends within a chunk")?;
        let quotients = last + 1 - end - k;
        end = last + 1;
        let low_sum = sum_fields(lows, (group * GROUP_CHUNKS + chunk) * k * rice as usize, rice, k) as usize;
        let gaps = (quotients << rice) + low_sum;
        if gaps > room {
            return Err("an index lies outside its chunk");
        }
        total += gaps as u64;
    }
    // The last one of the stream must lie in its last byte, with nothing after it.
    if end.div_ceil(8) != unary.len() || ones.next() < unary.len() * 8 {
        return Err("a restart group does not end with its last index");
    }
    Ok(total)
}

/// Walks a checked section's chunks in order, from any chunk on.
pub(crate) struct Chunks<'a> {
    k: usize,
    rice: u32,
    chunk: usize,
    code_bits: u32,
    dense: bool,
    codes: &'a [u8],
    lows: &'a [u8],
    payload: &'a [u8],
    groups: &'a [usize],
    ones: Ones<'a>,
    /// Bit after the last one read in the current group.
    end: usize,
}

impl<'a> Chunks<'a> {
    /// Begins at chunk `first`: goes to its restart point and passes over the chunks before it.
    #[inline(always)]
    pub(crate) fn new(layout: &Layout, param: &ParamLayout, section: &'a Section, payload: &'a [u8], first: usize) -> Self {
        let mut chunks = Self {
            k: param.k,
            rice: section.rice,
            chunk: first / GROUP_CHUNKS * GROUP_CHUNKS,
            code_bits: layout.code_bits() as u32,
            dense: param.is_dense(),
            codes: &payload[section.codes.clone()],
            lows: &payload[section.lows.clone()],
            payload,
            groups: &section.groups,
            ones: Ones::new(&[]),
            end: 0,
        };
        chunks.restart();
        if chunks.chunk < first && !chunks.dense {
            chunks.end = chunks.ones.nth((first - chunks.chunk) * chunks.k).map_or(0, |last| last + 1);
        }
        chunks.chunk = first;
        chunks
    }

    #[inline(always)]
    fn restart(&mut self) {
        if let (false, Some([start, end, ..])) = (self.dense, self.groups.get(self.chunk / GROUP_CHUNKS..)) {
            self.ones = Ones::new(&self.payload[*start..*end]);
            self.end = 0;
        }
    }

    /// Reads the next chunk: ascending positions below the chunk's length, and codes. Both slices have `k` places.
    #[inline(always)]
    pub(crate) fn next(&mut self, positions: &mut [u16], codes: &mut [u16]) {
        let (positions, codes) = (&mut positions[..self.k], &mut codes[..self.k]);
        if self.chunk.is_multiple_of(GROUP_CHUNKS) {
            self.restart();
        }
        read_fields(self.codes, self.chunk * self.k * self.code_bits as usize, self.code_bits, codes);
        if self.dense {
            positions.iter_mut().zip(0..).for_each(|(position, i)| *position = i);
        } else {
            read_fields(self.lows, self.chunk * self.k * self.rice as usize, self.rice, positions);
            // Copies on the stack: the compiler then keeps them in registers.
            let (mut ones, rice, end) = (self.ones, self.rice, self.end);
            let (mut low_sum, mut at) = (0u32, end);
            for (i, position) in (0u32..).zip(positions.iter_mut()) {
                low_sum += u32::from(*position);
                at = ones.next();
                let quotients = (at - end) as u32 - i;
                *position = ((quotients << rice) + low_sum + i) as u16;
            }
            self.end = at + 1;
            self.ones = ones;
        }
        self.chunk += 1;
    }
}

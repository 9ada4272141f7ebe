//! θ, moments and residuals as safetensors files, and as bytes for uploads.
//!
//! What always holds: a file is complete or absent (temporary file in the same directory, fsync, rename); the same
//! tensors and metadata give the same bytes, so checkpoints can be addressed by content; nothing is allocated for a
//! tensor before the whole header agreed with the model and with the length of the file. All tensors are float32.

use crate::element::Element;
use crate::safetensors_format::{header_bytes, read_data, read_header, write_data};
use crate::{ModelError, Moments, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use templar_protocol::{Digest, ParamSpec, Theta};

/// Key of the step count in the metadata of a moments file.
const STEP_KEY: &str = "step";

/// Free text that travels in the header, for example the window and the global step.
pub type Metadata = BTreeMap<String, String>;

/// What a file or an upload held.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Names and shapes: those of the model, or in the order of the file's data where any file is read.
    pub specs: Vec<ParamSpec>,
    /// The values, row-major, in the order of `specs`.
    pub tensors: Theta,
    /// The header's free text.
    pub metadata: Metadata,
    /// blake3 of the whole file.
    pub digest: Digest,
}

/// The file's bytes for `tensors`, which have the lengths of `specs`.
///
/// # Errors
/// [`ModelError::Shape`] when they do not.
pub fn encode(specs: &[ParamSpec], tensors: &[Vec<f32>], metadata: &Metadata) -> Result<Vec<u8>> {
    check_lengths(specs, tensors)?;
    let header = header_bytes(specs, metadata, Element::F32);
    let mut bytes = Vec::with_capacity(header.len() + 4 * tensors.iter().map(Vec::len).sum::<usize>());
    write_all(&mut bytes, &header, tensors).map_err(|error| refused(error.to_string()))?;
    Ok(bytes)
}

/// The tensors of `bytes`, whose names and shapes must be exactly those of `specs` (in any order).
///
/// # Errors
/// [`ModelError::Checkpoint`] says where the bytes and the model differ.
pub fn decode(specs: &[ParamSpec], bytes: &[u8]) -> Result<Loaded> {
    load(bytes, bytes.len() as u64, Some(specs), Path::new("(bytes)"))
}

/// Writes `tensors` atomically and gives the digest of the file.
///
/// # Errors
/// [`ModelError::Shape`] for lengths that are not those of `specs`; [`ModelError::File`].
pub fn write(path: &Path, specs: &[ParamSpec], tensors: &[Vec<f32>], metadata: &Metadata) -> Result<Digest> {
    check_lengths(specs, tensors)?;
    write_with(path, specs, metadata, |index, sink| sink(&tensors[index]))
}

/// As [`write()`], with parameter `index` asked for when its place comes, so that one is in memory at a time.
///
/// # Errors
/// As [`write()`], and what `tensor` returns; the file is then as it was.
pub fn write_each(
    path: &Path,
    specs: &[ParamSpec],
    metadata: &Metadata,
    mut tensor: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<Digest> {
    write_with(path, specs, metadata, |index, sink| sink(&tensor(index)?))
}

/// What takes the values of one tensor.
type Sink<'a> = dyn FnMut(&[f32]) -> Result<()> + 'a;

fn write_with(
    path: &Path,
    specs: &[ParamSpec],
    metadata: &Metadata,
    mut tensor: impl FnMut(usize, &mut Sink) -> Result<()>,
) -> Result<Digest> {
    let failed = |source| ModelError::File { action: "writing", path: path.into(), source };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    let mut writer = Hashing::new(BufWriter::with_capacity(1 << 20, file.as_file_mut()));
    writer.write_all(&header_bytes(specs, metadata, Element::F32)).map_err(failed)?;
    for (index, spec) in specs.iter().enumerate() {
        tensor(index, &mut |values| {
            check_len(spec, values)?;
            write_data(&mut writer, values, Element::F32).map_err(failed)
        })?;
    }
    writer.inner.flush().map_err(failed)?;
    let digest = writer.digest();
    drop(writer);
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    // The rename itself must survive a power cut, too.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    Ok(digest)
}

/// Reads a file whose tensors must be exactly those of `specs` (in any order).
///
/// # Errors
/// [`ModelError::File`]; [`ModelError::Checkpoint`] says where the file and the model differ.
pub fn read(path: &Path, specs: &[ParamSpec]) -> Result<Loaded> {
    open(path, Some(specs))
}

/// Reads any float32 safetensors file; what is allocated is bounded by the file's length.
///
/// # Errors
/// [`ModelError::File`]; [`ModelError::Checkpoint`] for a malformed file or another element type.
pub fn read_any(path: &Path) -> Result<Loaded> {
    open(path, None)
}

/// An upper bound of the length of a checkpoint of these parameters with up to 64 KiB of metadata, for bounded downloads.
pub fn encoded_bytes_max(specs: &[ParamSpec]) -> u64 {
    let data: u64 = specs.iter().map(|spec| 4 * spec.len() as u64).sum();
    data + header_bytes(specs, &Metadata::new(), Element::F32).len() as u64 + (64 << 10)
}

/// Names and shapes with `prefix` before each name, for files that hold several lists of one model's shapes.
pub fn prefixed(prefix: &str, specs: &[ParamSpec]) -> Vec<ParamSpec> {
    specs.iter().map(|spec| ParamSpec { name: format!("{prefix}{}", spec.name), shape: spec.shape.clone() }).collect()
}

/// Writes the optimiser's state atomically: tensors `m.<name>` and `v.<name>`, and the step in the metadata. The single element
/// that stands in the place of a second moment where an optimiser has none is written as such.
///
/// # Errors
/// As [`write()`].
pub fn write_moments(path: &Path, specs: &[ParamSpec], moments: Moments) -> Result<Digest> {
    let Moments { step, m, v } = moments;
    let kept: Vec<bool> = v.iter().map(|values| values.len() != 1).collect();
    let tensors: Theta = m.into_iter().chain(v).collect();
    write(
        path,
        &moment_specs(specs, |index| kept.get(index) == Some(&true)),
        &tensors,
        &Metadata::from([(STEP_KEY.into(), step.to_string())]),
    )
}

/// Reads what [`write_moments`] wrote.
///
/// # Errors
/// As [`read`]; a missing or malformed step is a [`ModelError::Checkpoint`].
pub fn read_moments(path: &Path, specs: &[ParamSpec]) -> Result<Moments> {
    let file = crate::TensorFile::open(path)?;
    let placeholders: BTreeSet<&str> =
        file.specs().iter().filter(|spec| spec.shape == PLACEHOLDER).map(|spec| spec.name.as_str()).collect();
    let kept = |index: usize| !placeholders.contains(format!("v.{}", specs[index].name).as_str());
    let mut loaded = read(path, &moment_specs(specs, kept))?;
    let step = loaded.metadata.get(STEP_KEY).and_then(|step| step.parse().ok());
    let step = step.ok_or_else(|| refused("its metadata has no step of the optimiser".into()))?;
    let v = loaded.tensors.split_off(specs.len());
    Ok(Moments { step, m: loaded.tensors, v })
}

/// Shape of what stands in the place of a second moment that an optimiser does not have.
const PLACEHOLDER: [usize; 1] = [1];

/// Names and shapes in a file of moments, where the second moment `index` is there if it is `kept`.
fn moment_specs(specs: &[ParamSpec], kept: impl Fn(usize) -> bool) -> Vec<ParamSpec> {
    let mut both = prefixed("m.", specs);
    both.extend(prefixed("v.", specs).into_iter().enumerate().map(|(index, spec)| match kept(index) {
        true => spec,
        false => ParamSpec { shape: PLACEHOLDER.to_vec(), ..spec },
    }));
    both
}

/// Checks that `tensors` are as many and as long as `specs` say.
pub(crate) fn check_lengths(specs: &[ParamSpec], tensors: &[Vec<f32>]) -> Result<()> {
    if specs.len() != tensors.len() {
        return Err(ModelError::Shape { reason: format!("{} tensors, the model has {} parameters", tensors.len(), specs.len()) });
    }
    specs.iter().zip(tensors).try_for_each(|(spec, values)| check_len(spec, values))
}

pub(crate) fn check_len(spec: &ParamSpec, values: &[f32]) -> Result<()> {
    if spec.len() == values.len() {
        return Ok(());
    }
    let reason = format!("`{}` has {} elements, its shape {:?} needs {}", spec.name, values.len(), spec.shape, spec.len());
    Err(ModelError::Shape { reason })
}

fn refused(reason: String) -> ModelError {
    ModelError::Checkpoint { reason }
}

fn write_all(writer: &mut impl Write, header: &[u8], tensors: &[Vec<f32>]) -> io::Result<()> {
    writer.write_all(header)?;
    tensors.iter().try_for_each(|values| write_data(writer, values, Element::F32))
}

fn open(path: &Path, specs: Option<&[ParamSpec]>) -> Result<Loaded> {
    let failed = |source| ModelError::File { action: "reading", path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    load(BufReader::with_capacity(1 << 20, file), bytes, specs, path)
}

/// Reads header and data from a source of `bytes` bytes; `path` is for messages.
fn load(source: impl Read, bytes: u64, specs: Option<&[ParamSpec]>, path: &Path) -> Result<Loaded> {
    let failed = |source| ModelError::File { action: "reading", path: path.into(), source };
    let mut reader = Hashing::new(source);
    let header = read_header(&mut reader, bytes).map_err(failed)?.map_err(refused)?;
    header.require_f32().map_err(refused)?;
    let order = match specs {
        Some(specs) => places(specs, &header.specs)?,
        None => (0..header.specs.len()).collect(),
    };
    let mut tensors = vec![Vec::new(); order.len()];
    for (spec, place) in header.specs.iter().zip(order) {
        tensors[place] = read_data(&mut reader, spec.len(), Element::F32).map_err(failed)?;
    }
    let digest = reader.digest();
    let specs = specs.map_or(header.specs, <[ParamSpec]>::to_vec);
    Ok(Loaded { specs, tensors, metadata: header.metadata, digest })
}

/// For each tensor of the file its index among `specs`; names and shapes must agree one to one.
pub(crate) fn places(specs: &[ParamSpec], found: &[ParamSpec]) -> Result<Vec<usize>> {
    if found.len() != specs.len() {
        return Err(refused(format!("it has {} tensors, the model {}", found.len(), specs.len())));
    }
    let index: BTreeMap<&str, usize> = specs.iter().enumerate().map(|(i, spec)| (spec.name.as_str(), i)).collect();
    let place = |found: &ParamSpec| match index.get(found.name.as_str()) {
        Some(&i) if specs[i].shape == found.shape => Ok(i),
        Some(&i) => Err(refused(format!("`{}` has the shape {:?}, the model's is {:?}", found.name, found.shape, specs[i].shape))),
        None => Err(refused(format!("the model has no parameter `{}`", found.name))),
    };
    // The header's names are distinct, so equal counts and no stranger make it one to one.
    found.iter().map(place).collect()
}

/// Passes bytes through and hashes them.
struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }

    fn digest(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.hasher.update(&into[..read]);
        Ok(read)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(name: &str, shape: &[usize]) -> ParamSpec {
        ParamSpec { name: name.into(), shape: shape.to_vec() }
    }

    fn sample() -> (Vec<ParamSpec>, Theta, Metadata) {
        let specs = vec![spec("b.weight", &[2, 3]), spec("a \"quoted\"", &[1])];
        let tensors = vec![vec![1.0, -0.0, f32::MIN_POSITIVE / 2.0, 3.5, f32::INFINITY, -7.25], vec![0.1]];
        (specs, tensors, Metadata::from([("window".into(), "7".into())]))
    }

    fn bits(theta: &Theta) -> Vec<Vec<u32>> {
        theta.iter().map(|values| values.iter().map(|v| v.to_bits()).collect()).collect()
    }

    #[test]
    fn bytes_and_files_return_the_same_bits() {
        let (specs, tensors, metadata) = sample();
        let bytes = encode(&specs, &tensors, &metadata).unwrap();
        assert!(bytes.len() as u64 <= encoded_bytes_max(&specs));
        let loaded = decode(&specs, &bytes).unwrap();
        assert_eq!(bits(&loaded.tensors), bits(&tensors));
        assert_eq!((loaded.metadata, loaded.digest), (metadata.clone(), Digest::of(&bytes)));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theta.safetensors");
        let digest = write(&path, &specs, &tensors, &metadata).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(bits(&read(&path, &specs).unwrap().tensors), bits(&tensors));
        assert_eq!(read_any(&path).unwrap().specs, specs);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_safetensors_crate_agrees_both_ways() {
        let (specs, tensors, metadata) = sample();
        let bytes = encode(&specs, &tensors, &metadata).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let raw: Vec<u8> = tensors[0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(theirs.tensor("b.weight").unwrap().data(), raw);
        assert_eq!(theirs.tensor("b.weight").unwrap().shape(), [2, 3]);
        let view = |name: &str| (name.to_owned(), theirs.tensor(name).unwrap());
        let written = safetensors::serialize([view("b.weight"), view("a \"quoted\"")], None).unwrap();
        assert_eq!(bits(&decode(&specs, &written).unwrap().tensors), bits(&tensors));
    }

    #[test]
    fn other_names_shapes_and_counts_are_refused() {
        let (specs, tensors, metadata) = sample();
        let bytes = encode(&specs, &tensors, &metadata).unwrap();
        let renamed = [spec("c", &[2, 3]), specs[1].clone()];
        let reshaped = [spec("b.weight", &[3, 2]), specs[1].clone()];
        for wrong in [&renamed[..], &reshaped[..], &specs[..1]] {
            assert!(matches!(decode(wrong, &bytes), Err(ModelError::Checkpoint { .. })));
        }
        assert!(encode(&specs, &tensors[..1], &metadata).is_err());
        assert!(matches!(read(Path::new("no/such/file"), &specs), Err(ModelError::File { .. })));
        assert!(matches!(write(Path::new("no/such/file"), &specs, &tensors, &metadata), Err(ModelError::File { .. })));
    }

    #[test]
    fn moments_come_back_with_their_step() {
        let (specs, m, _) = sample();
        let v = vec![vec![2.0; 6], vec![9.0]];
        let moments = Moments { step: 41, m, v };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("moments.safetensors");
        write_moments(&path, &specs, moments.clone()).unwrap();
        assert_eq!(read_moments(&path, &specs).unwrap(), moments);
        let theta = folder.path().join("theta.safetensors");
        write(&theta, &moment_specs(&specs, |_| true), &[moments.m, moments.v].concat(), &Metadata::new()).unwrap();
        assert!(matches!(read_moments(&theta, &specs), Err(ModelError::Checkpoint { .. })));
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic_and_lengths_must_agree(position in 0_usize..300, value: u8, cut in 0_usize..300) {
            let (specs, tensors, metadata) = sample();
            let bytes = encode(&specs, &tensors, &metadata).unwrap();
            let mut flipped = bytes.clone();
            let position = position % flipped.len();
            flipped[position] = value;
            if let Ok(loaded) = decode(&specs, &flipped) {
                prop_assert_eq!(loaded.tensors.len(), 2);
            }
            prop_assert!(decode(&specs, &bytes[..cut % bytes.len()]).is_err());
            let longer: Vec<u8> = bytes.iter().copied().chain([0; 3]).collect();
            prop_assert!(decode(&specs, &longer).is_err());
        }
    }
}

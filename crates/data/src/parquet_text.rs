//! The texts of one column of a Parquet file, a few rows at a time.

use parquet::{
    basic::Type,
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, ByteArrayType},
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
};
use std::{collections::VecDeque, fs::File};

/// Rows decoded at a time.
const ROWS: usize = 64;

/// Why a Parquet file gives no text.
#[derive(Debug)]
pub(crate) enum ParquetProblem {
    /// It is not a Parquet file, or damaged.
    File(ParquetError),
    /// It has no such column of strings; these it has.
    Column(Vec<String>),
    /// A value is no UTF-8.
    NotText,
}

impl From<ParquetError> for ParquetProblem {
    fn from(error: ParquetError) -> Self {
        Self::File(error)
    }
}

pub(crate) struct ParquetTexts {
    reader: SerializedFileReader<File>,
    column: usize,
    row_group: usize,
    current: Option<ColumnReaderImpl<ByteArrayType>>,
    texts: VecDeque<String>,
}

impl ParquetTexts {
    pub(crate) fn open(file: File, field: &str) -> Result<Self, ParquetProblem> {
        let reader = SerializedFileReader::new(file)?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let strings =
            |column: &parquet::schema::types::ColumnDescriptor| column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0;
        let position = (0..schema.num_columns()).find(|&i| schema.column(i).path().string() == field && strings(&schema.column(i)));
        let Some(column) = position else {
            let usable = schema.columns().iter().filter(|column| strings(column)).map(|column| column.path().string());
            return Err(ParquetProblem::Column(usable.take(20).collect()));
        };
        Ok(Self { reader, column, row_group: 0, current: None, texts: VecDeque::new() })
    }

    /// The next text; rows without one are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<String>, ParquetProblem> {
        loop {
            if let Some(text) = self.texts.pop_front() {
                return Ok(Some(text));
            }
            if let Some(current) = &mut self.current {
                let (mut values, mut levels) = (Vec::<ByteArray>::with_capacity(ROWS), Vec::with_capacity(ROWS));
                let (records, _, _) = current.read_records(ROWS, Some(&mut levels), None, &mut values)?;
                for value in values {
                    let text = std::str::from_utf8(value.data()).map_err(|_| ParquetProblem::NotText)?;
                    self.texts.push_back(text.to_owned());
                }
                if records == 0 {
                    self.current = None;
                }
            } else if self.row_group < self.reader.num_row_groups() {
                let group = self.reader.get_row_group(self.row_group)?;
                self.row_group += 1;
                match group.get_column_reader(self.column)? {
                    ColumnReader::ByteArrayColumnReader(reader) => self.current = Some(reader),
                    _ => return Err(ParquetProblem::Column(Vec::new())),
                }
            } else {
                return Ok(None);
            }
        }
    }
}

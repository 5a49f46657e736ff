//! How results are printed: tables for people, JSON and CSV for programs. Data goes to stdout, words to stderr.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

use crate::cli::error::CliError;
use crate::cli::flat;

/// Formats of `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns that fit a screen.
    #[default]
    Table,
    /// All columns.
    Wide,
    /// One JSON document, with a versioned schema.
    Json,
    /// One JSON object a line and row.
    Ndjson,
    /// The same as comma-separated values with a header.
    Csv,
}

impl Format {
    /// True for the formats that people read.
    pub fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    name: &'static str,
    wide: bool,
    right: bool,
}

/// A column of words.
pub const fn text(name: &'static str) -> Column {
    Column { name, wide: false, right: false }
}

/// A column of numbers.
pub const fn number(name: &'static str) -> Column {
    Column { name, wide: false, right: true }
}

impl Column {
    /// Only with `-o wide`.
    pub const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }
}

/// Rows below columns.
#[derive(Clone, Debug)]
pub struct Rows {
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
}

impl Rows {
    /// No rows yet.
    pub fn new(columns: &'static [Column]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn push(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for every column");
        self.rows.push(cells);
    }

    /// The table as text, `wide` or not; without a line at its end.
    pub fn to_table(&self, wide: bool) -> String {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|i| wide || !self.columns[*i].wide).collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(shown.iter().map(|i| self.cell(*i, &self.columns[*i].name.to_uppercase())));
        for row in &self.rows {
            table.add_row(shown.iter().map(|i| self.cell(*i, &row[*i])));
        }
        // Columns stand two apart and begin at the margin.
        for (i, column) in table.column_iter_mut().enumerate() {
            column.set_padding((if i == 0 { 0 } else { 1 }, 1));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }

    fn cell(&self, column: usize, content: &str) -> Cell {
        let align = if self.columns[column].right { CellAlignment::Right } else { CellAlignment::Left };
        Cell::new(content).set_alignment(align)
    }
}

/// Prints a result: `whole` as JSON, `items` as its rows in NDJSON and CSV, `rows` as a table.
///
/// # Errors
/// If stdout cannot be written.
pub fn print<T: Serialize, I: Serialize>(
    format: Format,
    whole: &T,
    items: &[I],
    rows: impl FnOnce() -> Rows,
) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table | Format::Wide => writeln!(out, "{}", rows().to_table(format == Format::Wide))?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, whole).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Format::Ndjson => {
            for item in items {
                serde_json::to_writer(&mut out, item).map_err(io::Error::from)?;
                writeln!(out)?;
            }
        }
        Format::Csv => flat::write_csv(&mut out, items).map_err(io::Error::from)?,
    }
    Ok(out.flush()?)
}

/// A line of a stream of JSON, which has no document around it: it names its schema itself.
pub fn json_line<T: Serialize>(schema: &'static str, row: &T) -> String {
    #[derive(Serialize)]
    struct Line<'a, T> {
        schema: &'static str,
        #[serde(flatten)]
        row: &'a T,
    }
    serde_json::to_string(&Line { schema, row }).expect("a row is JSON")
}

/// A duration in milliseconds for people: three digits and a unit.
pub fn duration_ms(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{:.1} s", ms as f64 / 1000.0),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// A duration in microseconds for people.
pub fn duration_us(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..10_000 => format!("{:.2} ms", us as f64 / 1000.0),
        10_000..100_000 => format!("{:.1} ms", us as f64 / 1000.0),
        _ => duration_ms(us / 1000),
    }
}

/// What is not known.
pub const NONE: &str = "-";

/// The value as text, or a dash.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// A value and its uncertainty to as many digits as make sense: two of the uncertainty, else six.
pub fn value_text(value: f64, sigma: Option<f64>) -> String {
    let Some(sigma) = sigma.filter(|sigma| *sigma > 0.0 && sigma.is_finite()) else {
        let digits = 5 - (value.abs().max(1e-9).log10().floor() as i32).clamp(-9, 5);
        let text = format!("{value:.*}", digits.clamp(0, 9) as usize);
        return match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        };
    };
    let digits = (1 - sigma.log10().floor() as i32).clamp(0, 9) as usize;
    format!("{value:.digits$} ± {sigma:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[text("node"), number("entries"), text("addr").wide()];

    fn sample() -> Rows {
        let mut rows = Rows::new(COLUMNS);
        rows.push(vec!["gw-1".into(), "7".into(), "127.0.0.1:7401".into()]);
        rows.push(vec!["gw-22".into(), "12345".into(), "127.0.0.1:7402".into()]);
        rows
    }

    #[test]
    fn a_table_is_plain_columns() {
        assert_eq!(sample().to_table(false), "NODE   ENTRIES\ngw-1         7\ngw-22    12345");
        assert!(sample().to_table(true).contains("127.0.0.1:7402"));
    }

    #[test]
    fn numbers_show_the_digits_they_deserve() {
        assert_eq!(value_text(21.456_78, Some(0.25)), "21.46 ± 0.25");
        assert_eq!(value_text(21.5, None), "21.5");
        assert_eq!(value_text(8_123_456_789.0, None), "8123456789");
        assert_eq!(value_text(0.0, None), "0");
        assert_eq!(value_text(1234.0, Some(100.0)), "1234 ± 100");
        assert_eq!(duration_ms(1500), "1.5 s");
        assert_eq!(duration_us(1500), "1.50 ms");
    }
}

//! Two results side by side.

use std::path::Path;

use crate::cli::bench::convergence::result::{Report, Run};
use crate::cli::error::CliError;
use crate::cli::output::{Column, NONE, Rows, duration_us, number, text};

const COLUMNS: &[Column] = &[
    text("against the baseline"),
    number("p50 was"),
    number("is"),
    number("change"),
    number("p99 was"),
    number("is"),
    number("change"),
    number("messages"),
    number("bytes"),
];

/// Reads an earlier result.
///
/// # Errors
/// If the file is not there or is no such result.
pub fn read(path: &Path) -> Result<Report, CliError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| CliError::because(name.clone(), &error))?;
    serde_json::from_str(&text).map_err(|error| {
        CliError::because(name, &error).hint("a baseline is what `sensorctl bench convergence -o json` printed")
    })
}

/// The run of the baseline with the same setting.
pub fn same<'a>(baseline: &'a Report, run: &Run) -> Option<&'a Run> {
    baseline.runs.iter().find(|old| old.setting == run.setting && old.complaint().is_none())
}

/// A row for each run: how it was, how it is, and the change in percent.
pub fn rows(report: &Report, baseline: &Report) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for run in report.runs.iter().filter(|run| run.complaint().is_none()) {
        let old = same(baseline, run);
        let mut cells = vec![run.setting.to_string()];
        for (was, is) in [
            (old.map(|old| old.to_all.p50_us), run.to_all.p50_us),
            (old.map(|old| old.to_all.p99_us), run.to_all.p99_us),
        ] {
            cells.push(was.map_or_else(|| NONE.to_owned(), duration_us));
            cells.push(duration_us(is));
            cells.push(was.map_or_else(|| NONE.to_owned(), |was| change(was as f64, is as f64)));
        }
        let figures = |run: &Run| (run.data_messages_per_node_update, run.bytes_per_node_update);
        let (messages, bytes) = figures(run);
        let was = old.map(figures);
        cells.push(was.map_or_else(|| NONE.to_owned(), |was| change(was.0, messages)));
        cells.push(was.map_or_else(|| NONE.to_owned(), |was| change(was.1, bytes)));
        rows.push(cells);
    }
    rows
}

fn change(was: f64, is: f64) -> String {
    if was > 0.0 { format!("{:+.0}%", (is / was - 1.0) * 100.0) } else { NONE.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_in_percent_of_what_was() {
        assert_eq!((change(200.0, 150.0).as_str(), change(100.0, 125.0).as_str()), ("-25%", "+25%"));
        assert_eq!(change(0.0, 5.0), NONE);
    }
}

//! JSON objects as rows of plain cells, for CSV: the same names and values, with nothing for people in them.
//!
//! What lies within an object has the names of both, joined: `latency` {`p50_us`} is `latency_p50_us`. A list of plain
//! values is joined by blanks; any other list stays JSON. What is null is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Writes items below the names of all their fields, in the order in which these first appear.
///
/// # Errors
/// If an item is no JSON object, or `out` cannot be written.
pub fn write_csv<T: Serialize>(out: impl Write, items: &[T]) -> Result<(), csv::Error> {
    let rows = items.iter().map(cells).collect::<Result<Vec<_>, _>>().map_err(std::io::Error::from)?;
    let mut csv = csv::Writer::from_writer(out);
    let columns = columns(&rows);
    if !columns.is_empty() {
        csv.write_record(&columns)?;
    }
    for row in rows {
        let row: BTreeMap<String, Option<String>> = row.into_iter().collect();
        csv.write_record(columns.iter().map(|column| row.get(column).and_then(Option::as_deref).unwrap_or_default()))?;
    }
    Ok(csv.flush()?)
}

/// One row of a stream below a header that was written before, with the end of its line: `columns` and no others.
pub fn csv_row<T: Serialize>(columns: &[&str], item: &T) -> String {
    let row: BTreeMap<String, Option<String>> = cells(item).expect("a row is JSON").into_iter().collect();
    let mut csv = csv::Writer::from_writer(Vec::new());
    let record = columns.iter().map(|column| row.get(*column).and_then(Option::as_deref).unwrap_or_default());
    csv.write_record(record).expect("a vector takes everything");
    String::from_utf8(csv.into_inner().expect("a vector takes everything")).expect("cells are text")
}

/// Names and values of one row; `None` is null, of which it is not known whether others have an object there.
type Cells = Vec<(String, Option<String>)>;

fn columns(rows: &[Cells]) -> Vec<String> {
    let objects = rows.iter().flatten().filter(|(_, value)| value.is_some());
    let filled: BTreeSet<&str> = objects.map(|(name, _)| name.as_str()).collect();
    let is_object = |name: &str| {
        let within = format!("{name}_");
        !filled.contains(name) && filled.range(within.as_str()..).next().is_some_and(|next| next.starts_with(&within))
    };
    let mut seen = BTreeSet::new();
    let names = rows.iter().flatten().map(|(name, _)| name);
    names.filter(|name| seen.insert(name.as_str()) && !is_object(name)).cloned().collect()
}

fn cells<T: Serialize>(item: &T) -> Result<Cells, serde_json::Error> {
    let json = serde_json::value::to_raw_value(item)?;
    let mut cells = Vec::new();
    flatten("", &json, &mut cells)?;
    Ok(cells)
}

fn flatten(name: &str, json: &RawValue, cells: &mut Cells) -> Result<(), serde_json::Error> {
    let value = match json.get().as_bytes()[0] {
        b'{' => {
            for (field, json) in serde_json::from_str::<Fields>(json.get())?.0 {
                let field = if name.is_empty() { field } else { format!("{name}_{field}") };
                flatten(&field, &json, cells)?;
            }
            return Ok(());
        }
        b'[' => Some(list(json)?),
        b'n' => None,
        _ => Some(plain(json)?),
    };
    cells.push((name.to_owned(), value));
    Ok(())
}

fn list(json: &RawValue) -> Result<String, serde_json::Error> {
    let items: Vec<Box<RawValue>> = serde_json::from_str(json.get())?;
    if items.iter().any(|item| item.get().starts_with(['{', '['])) {
        return Ok(json.get().to_owned());
    }
    Ok(items.iter().map(|item| plain(item)).collect::<Result<Vec<_>, _>>()?.join(" "))
}

/// A number or a word as it is, a text without its quotes.
fn plain(json: &RawValue) -> Result<String, serde_json::Error> {
    if json.get().starts_with('"') { serde_json::from_str(json.get()) } else { Ok(json.get().to_owned()) }
}

/// The fields of an object in their order.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn written(items: &[&str]) -> String {
        let items: Vec<&RawValue> = items.iter().map(|item| serde_json::from_str(item).unwrap()).collect();
        let mut out = Vec::new();
        write_csv(&mut out, &items).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_keep_their_order_names_and_values() {
        let rows = written(&[
            r#"{"node":"gw-1","value":21.50,"unit":"°C","age_ms":1500,"at":{"index":7,"hash":"ab"}}"#,
            r#"{"node":"a,\"b\"","value":null,"unit":null,"age_ms":2,"at":null,"note":"stuck"}"#,
        ]);
        let expected = "node,value,unit,age_ms,at_index,at_hash,note\n\
             gw-1,21.50,°C,1500,7,ab,\n\
             \"a,\"\"b\"\"\",,,2,,,stuck\n";
        assert_eq!(rows, expected);
    }

    #[test]
    fn lists_are_joined_and_lists_of_objects_stay_json() {
        assert_eq!(
            written(&[r#"{"interval":[1.5,2],"names":["a","b"],"none":[],"faults":[{"kind":"stuck"}],"ok":true}"#]),
            "interval,names,none,faults,ok\n1.5 2,a b,,\"[{\"\"kind\"\":\"\"stuck\"\"}]\",true\n"
        );
    }

    #[test]
    fn what_is_null_everywhere_is_an_empty_column_and_nothing_is_nothing() {
        assert_eq!(written(&[r#"{"a":null}"#, r#"{"a":null}"#]), "a\n\"\"\n\"\"\n");
        assert_eq!(written(&[]), "");
    }

    #[test]
    fn a_row_of_a_stream_has_the_columns_that_were_promised() {
        let item: &RawValue = serde_json::from_str(r#"{"b":1,"c":2}"#).unwrap();
        assert_eq!(csv_row(&["a", "b"], &item), ",1\n");
    }
}

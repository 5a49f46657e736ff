//! `sensorctl regions`: every region with its leader and newest checkpoint.

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::output::{self, Column, Rows, duration_ms, number, or_dash, text};
use crate::cli::status;
use crate::shell::http::model::RegionStatus;

#[derive(Args)]
pub struct RegionsArgs {}

#[derive(Serialize)]
struct Regions {
    schema: &'static str,
    regions: Vec<RegionStatus>,
}

pub async fn run(cx: &Context, _: RegionsArgs) -> Result<(), CliError> {
    let status = status::ask(&cx.client()?).await?;
    let regions = Regions { schema: "sensorctl/regions/v1", regions: status.regions };
    output::print(cx.format, &regions, &regions.regions, || rows(&regions.regions))
}

const COLUMNS: &[Column] = &[
    text("region"),
    text("leader"),
    number("term"),
    number("checkpoint"),
    number("age"),
    number("alive"),
    number("voters"),
    number("observers"),
    number("lag"),
    text("hash").wide(),
];

fn rows(regions: &[RegionStatus]) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for region in regions {
        let checkpoint = region.checkpoint.as_ref();
        rows.push(vec![
            region.id.clone(),
            or_dash(region.leader.clone()),
            region.term.to_string(),
            or_dash(checkpoint.map(|checkpoint| checkpoint.index)),
            or_dash(checkpoint.map(|checkpoint| duration_ms(checkpoint.age_ms))),
            region.alive.to_string(),
            format!("{}/{}", region.voters_alive, region.voters),
            region.observers_alive.to_string(),
            or_dash(region.lag_ms.map(|lag| duration_ms(lag as u64))),
            or_dash(checkpoint.map(|checkpoint| checkpoint.hash.clone())),
        ]);
    }
    rows
}

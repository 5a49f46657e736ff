//! `sensorctl checkpoint verify`: recompute every hash and parent, from the newest to the genesis.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::checkpoint::recompute::{Regions, estimates};
use crate::cli::checkpoint::{Group, PATIENCE};
use crate::cli::client::Client;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::{self, Column, Rows, number, or_dash, text};
use crate::core::fusion::document::verify_global;
use crate::core::id::{GroupId, Hash, Index, RegionId};
use crate::core::ledger::document::Document;
use crate::shell::http::model::{CheckpointRow, Checkpoints};

#[derive(Args)]
pub struct VerifyArgs {
    /// Only these exported files, oldest first, instead of a node's ledger
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only the documents; without this the readings' hashes and the estimates are recomputed too, as far as
    /// readings are kept
    #[arg(long)]
    documents_only: bool,
    /// What is done anyway
    #[arg(long, hide = true, conflicts_with = "documents_only")]
    bodies: bool,
    #[command(flatten)]
    group: Group,
}

#[derive(Serialize)]
struct Verified {
    schema: &'static str,
    ok: bool,
    checked: u64,
    bodies_checked: u64,
    estimates_checked: u64,
    from: Option<u64>,
    to: Option<u64>,
    first_error: Option<String>,
}

/// A chain as far as it has been walked, upwards.
#[derive(Default)]
struct Chain {
    checked: u64,
    bodies_checked: u64,
    estimates_checked: u64,
    first: Option<Index>,
    last: Option<(Index, Hash)>,
    /// Regions of the newest document: whoever makes the next has estimates of these.
    regions: BTreeSet<RegionId>,
}

impl Chain {
    /// Adds the next document, or says why it does not belong there.
    fn add(&mut self, document: &Document, index: Index) -> Result<(), String> {
        let header = document.header();
        if let Some((last, hash)) = self.last {
            if index != last.next() {
                return Err(format!("checkpoint {} follows {}", index.get(), last.get()));
            }
            if header.parent != Some(hash) {
                let named = or_dash(header.parent.map(|parent| parent.short()));
                return Err(format!(
                    "checkpoint {} names parent {named}, but {} is {}",
                    index.get(),
                    last.get(),
                    hash.short()
                ));
            }
        } else {
            self.first = Some(index);
        }
        self.last = Some((index, document.hash()));
        self.checked += 1;
        Ok(())
    }

    fn verdict(&self, error: Option<String>) -> Verified {
        Verified {
            schema: "sensorctl/checkpoint-verify/v1",
            ok: error.is_none(),
            checked: self.checked,
            bodies_checked: self.bodies_checked,
            estimates_checked: self.estimates_checked,
            from: self.first.map(Index::get),
            to: self.last.map(|(index, _)| index.get()),
            first_error: error,
        }
    }
}

pub async fn run(cx: &Context, args: VerifyArgs) -> Result<(), CliError> {
    let mut chain = Chain::default();
    let outcome = match args.files.is_empty() {
        true => walk(cx, &mut chain, !args.documents_only, &args.group).await?,
        false => read_files(&mut chain, &args.files)?,
    };
    let verdict = chain.verdict(outcome.err());
    const COLUMNS: &[Column] = &[
        text("verdict"),
        number("checked"),
        number("bodies"),
        number("estimates"),
        number("from"),
        number("to"),
        text("first error"),
    ];
    output::print(cx.format, &verdict, std::slice::from_ref(&verdict), || {
        let mut rows = Rows::new(COLUMNS);
        rows.push(vec![
            if verdict.ok { "whole".into() } else { "broken".into() },
            verdict.checked.to_string(),
            verdict.bodies_checked.to_string(),
            verdict.estimates_checked.to_string(),
            or_dash(verdict.from),
            or_dash(verdict.to),
            verdict.first_error.clone().unwrap_or_default(),
        ]);
        rows
    })?;
    if verdict.ok { Ok(()) } else { Err(CliError::silent(Kind::Failed)) }
}

fn read_files(chain: &mut Chain, files: &[PathBuf]) -> Result<Result<(), String>, CliError> {
    for path in files {
        let bytes = std::fs::read_to_string(path)
            .map_err(|error| CliError::because(format!("cannot read {}", path.display()), &error))?;
        let added = Document::parse(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|document| chain.add(&document, document.header().index));
        if let Err(why) = added {
            return Ok(Err(format!("{}: {why}", path.display())));
        }
    }
    Ok(Ok(()))
}

/// Rows asked for at a time.
const PAGE: u64 = 500;

async fn walk(cx: &Context, chain: &mut Chain, bodies: bool, group: &Group) -> Result<Result<(), String>, CliError> {
    let client = group.client(cx).await?;
    let query = group.query('&');
    let newest: Checkpoints = client.get(&format!("/v1/checkpoints?limit=1{query}"), PATIENCE).await?;
    let Some(top) = newest.checkpoints.first().map(|row| row.index) else { return Ok(Ok(())) };
    let bar = ProgressBar::new(top + 1);
    bar.set_style(ProgressStyle::with_template("verifying {bar:40} {pos}/{len} {eta}").expect("the template is valid"));
    let mut regions = Regions::new(&client);
    let mut next = 0;
    while next <= top {
        let to = (next + PAGE - 1).min(top);
        let page: Checkpoints =
            client.get(&format!("/v1/checkpoints?to={to}&limit={}{query}", to - next + 1), PATIENCE).await?;
        if page.checkpoints.is_empty() {
            return Ok(Err(format!("checkpoints {next} to {to} are missing")));
        }
        for row in page.checkpoints.iter().rev() {
            if let Err(why) = check(&client, &mut regions, chain, row, bodies).await? {
                bar.finish_and_clear();
                return Ok(Err(why));
            }
            bar.inc(1);
        }
        next = to + 1;
    }
    bar.finish_and_clear();
    for (region, why) in regions.without() {
        eprintln!("estimates that readings of {region} went into are not all computed again: {why}");
    }
    Ok(Ok(()))
}

async fn check(
    client: &Client,
    regions: &mut Regions,
    chain: &mut Chain,
    row: &CheckpointRow,
    bodies: bool,
) -> Result<Result<(), String>, CliError> {
    let place = row.index;
    let bytes = client.get_bytes(&format!("/v1/documents/{}", row.hash), PATIENCE).await?;
    let found = Hash::of(&bytes);
    if found.to_string() != row.hash {
        return Ok(Err(format!("checkpoint {place} hashes to {}, not to {}", found.short(), &row.hash[..12])));
    }
    let text = String::from_utf8_lossy(&bytes);
    let document = match Document::parse(&text) {
        Ok(document) => document,
        Err(error) => return Ok(Err(format!("checkpoint {place}: {error}"))),
    };
    // A region that came later begins with the global document that added it, whose own index is another.
    let group: Option<GroupId> = row.group.parse().ok();
    let index = group.as_ref().and_then(|group| document.index_in(group));
    if index != Some(Index(place)) {
        return Ok(Err(format!("checkpoint {place} says it is {}", document.header().index.get())));
    }
    let present = document.header().voters.regions().keys().cloned().collect();
    let before = std::mem::replace(&mut chain.regions, present);
    if let Err(why) = chain.add(&document, Index(place)) {
        return Ok(Err(why));
    }
    if let (true, true, Some(body)) = (bodies, row.body_held, document.header().body) {
        let bytes = client.get_bytes(&format!("/v1/checkpoints/{}/body", row.hash), PATIENCE).await?;
        let found = Hash::of(&bytes);
        if found != body {
            return Ok(Err(format!(
                "readings of checkpoint {place} hash to {}, not to {}",
                found.short(),
                body.short()
            )));
        }
        match estimates(&document, &bytes) {
            Ok(checked) => chain.estimates_checked += checked,
            Err(why) => return Ok(Err(format!("checkpoint {place}: {why}"))),
        }
        chain.bodies_checked += 1;
    }
    if let (true, Some(GroupId::Top), GroupId::Top, Some(fused)) =
        (bodies, group, &document.header().group, &document.header().fused)
    {
        let at = document.header().taken_at.time.wall();
        let checked = match regions.summaries(&before, document.header(), fused).await? {
            Ok(None) => Ok(0),
            Ok(Some(summaries)) => verify_global(fused, &summaries, at).map(|()| fused.estimates.len() as u64),
            Err(why) => Err(why),
        };
        match checked {
            Ok(checked) => chain.estimates_checked += checked,
            Err(why) => return Ok(Err(format!("checkpoint {place}: {why}"))),
        }
    }
    Ok(Ok(()))
}

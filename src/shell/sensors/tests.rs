use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::core::reading::Quality;
use crate::core::time::Wall;
use crate::shell::config::Span;
use crate::shell::config::sources::{ExecSource, FileSource, HwmonSource, ReplaySource, SimulatedSource, SystemSource};

const NOW: Wall = Wall::from_millis(1_700_000_000_000);
const PATIENCE: Duration = Duration::from_secs(30);

fn gateway() -> NodeId {
    NodeId::new("gw-1").unwrap()
}

/// Readings of a source until `enough` says so.
async fn collect(config: SourceConfig, enough: impl Fn(&[(Channel, Reading)]) -> bool) -> (Sensed, Vec<SourceStatus>) {
    let (out, mut sensed) = mpsc::channel(16);
    let sources = start(&[config], &gateway(), Clock::default(), &out);
    let mut all = Vec::new();
    let read = async {
        while !enough(&all) {
            all.extend(sensed.recv().await.expect("the source runs"));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("it reads in time");
    let status = sources.status();
    (all, status)
}

#[tokio::test]
async fn this_machine_is_read() {
    let config = SourceConfig::System(SystemSource { interval: Span::millis(10), ..Default::default() });
    let (readings, status) = collect(config, |all| all.len() >= 4).await;
    let memory = readings.iter().find(|(channel, _)| channel.as_str() == "memory/used").unwrap();
    assert_eq!(memory.1.unit.as_deref(), Some("%"));
    assert!(memory.1.value.is_some_and(|used| used > 0.0 && used <= 100.0));
    assert!(status[0].ok && status[0].readings >= 4);
}

#[test]
fn a_simulated_sensor_is_the_same_for_the_same_seed_and_shows_its_faults() {
    let config =
        SimulatedSource { seed: Some(7), dropout_rate: 0.2, spike_rate: 0.1, spike: 100.0, ..Default::default() };
    let series = |config: &SimulatedSource| {
        let mut sensor = simulated::Simulated::new(config.clone(), &gateway(), NOW);
        let at = |i: u64| NOW + Duration::from_secs(i);
        (0..2000).map(|i| sensor.read(at(i)).and_then(|reading| reading.value)).collect::<Vec<_>>()
    };
    let first = series(&config);
    assert_eq!(first, series(&config));
    let missing = first.iter().filter(|value| value.is_none()).count();
    assert!((300..500).contains(&missing), "{missing} of 2000 dropped out at a rate of 0.2");
    let spikes = first.iter().flatten().filter(|value| **value > 80.0).count();
    assert!((100..220).contains(&spikes), "{spikes} of 2000 are spikes at a rate of 0.1 and 0.8 seen");
    let stuck = series(&SimulatedSource { stuck_rate: 1.0, dropout_rate: 0.0, spike_rate: 0.0, ..config });
    assert!(stuck[1..60].iter().all(|value| *value == stuck[0]), "it sticks for a minute");
}

#[test]
fn a_sysfs_tree_is_read_in_the_units_of_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("class/thermal/thermal_zone0/type", "x86_pkg_temp\n");
    write("class/thermal/thermal_zone0/temp", "45123\n");
    write("class/hwmon/hwmon0/name", "nct6775\n");
    write("class/hwmon/hwmon0/temp1_input", "38000\n");
    write("class/hwmon/hwmon0/temp1_label", "CPU Temp\n");
    write("class/hwmon/hwmon0/fan2_input", "1200\n");
    write("class/hwmon/hwmon0/in0_input", "broken\n");
    write("class/hwmon/hwmon0/temp1_max", "90000\n");
    write("class/hwmon/hwmon1/name", "nct6775\n");
    write("class/hwmon/hwmon1/temp1_input", "39000\n");
    write("class/hwmon/hwmon1/temp1_label", "CPU Temp\n");
    let readings: BTreeMap<String, Reading> = hwmon::read_tree(dir.path(), NOW)
        .into_iter()
        .map(|(channel, reading)| (channel.to_string(), reading))
        .collect();
    let value = |name: &str| readings[name].value;
    assert_eq!(value("thermal/x86_pkg_temp"), Some(45.123));
    assert_eq!(value("hwmon/nct6775/CPU_Temp"), Some(38.0));
    assert_eq!(value("hwmon/nct6775/CPU_Temp.2"), Some(39.0));
    assert_eq!(value("hwmon/nct6775/fan2"), Some(1200.0));
    assert_eq!(readings["hwmon/nct6775/in0"].quality, Quality::Bad);
    assert_eq!(readings.len(), 5);
}

#[tokio::test]
async fn a_machine_without_sensors_says_so_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display().to_string();
    let config = SourceConfig::Hwmon(HwmonSource { root, interval: Span::millis(5), ..Default::default() });
    let (readings, status) = collect(config, |all| all.len() >= 2).await;
    assert_eq!(readings[0].1.quality, Quality::Bad);
    assert!(status[0].error.as_ref().unwrap().contains("show no sensor"));
    assert!(status[0].failures >= 2, "it tries again");
}

fn exec(command: &[&str]) -> ExecSource {
    ExecSource {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        interval: Span::millis(10),
        timeout: Span::millis(200),
        unit: Some("V".into()),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_command_gives_a_number() {
    let (readings, status) = collect(SourceConfig::Exec(exec(&["echo", "12.5 ignored"])), |all| !all.is_empty()).await;
    assert_eq!((readings[0].1.value, readings[0].1.unit.as_deref()), (Some(12.5), Some("V")));
    assert!(status[0].ok);
}

#[tokio::test]
async fn a_command_that_hangs_or_fails_is_a_bad_reading() {
    for (command, why) in [
        (&["sleep", "1000"][..], "took longer than 200 ms"),
        (&["false"], "ended with exit status: 1"),
        (&["no-such-program-here"], "cannot be started"),
        (&["echo", "warm"], "\"warm\", which is neither a number nor JSON"),
    ] {
        let (readings, status) = collect(SourceConfig::Exec(exec(command)), |all| !all.is_empty()).await;
        assert_eq!(readings[0].1.quality, Quality::Bad);
        assert!(status[0].error.as_ref().unwrap().contains(why), "{:?}", status[0].error);
    }
}

#[test]
fn json_lines_name_their_own_channels() {
    let output = "{\"channel\":\"a\",\"value\":1}\n{\"channel\":\"b\",\"value\":2,\"sigma\":0.5}\n";
    let readings = super::exec::parse(output, &ExecSource::default(), NOW).unwrap();
    assert_eq!(readings.iter().map(|(channel, _)| channel.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(readings[1].1.sigma, Some(0.5));
}

#[tokio::test]
async fn lines_that_are_none_are_refused_by_themselves() {
    let (out, mut sensed) = mpsc::channel(16);
    let feed = Feed::new("stdin", "stdin", Clock::default(), out);
    let input = b"{\"channel\":\"a\",\"value\":1}\nnonsense\n\n{\"channel\":\"b\",\"value\":2}\n";
    super::stdin::read_lines(&input[..], &feed).await;
    assert_eq!(sensed.recv().await.unwrap()[0].0.as_str(), "a");
    assert_eq!(sensed.recv().await.unwrap()[0].0.as_str(), "b");
    assert_eq!((feed.status().readings, feed.status().failures), (2, 1));
}

#[tokio::test]
async fn a_file_is_followed_while_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    fs::write(&path, "{\"channel\":\"a\",\"value\":1}\n{\"channel\":\"b\"").unwrap();
    let config = FileSource {
        path: path.display().to_string(),
        from_start: true,
        interval: Span::millis(5),
        ..Default::default()
    };
    let (out, mut sensed) = mpsc::channel(16);
    let _sources = start(&[SourceConfig::File(config)], &gateway(), Clock::default(), &out);
    assert_eq!(sensed.recv().await.unwrap()[0].0.as_str(), "a");
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b",\"value\":2}\n").unwrap();
    let next = tokio::time::timeout(PATIENCE, sensed.recv()).await.unwrap().unwrap();
    assert_eq!((next[0].0.as_str(), next[0].1.value), ("b", Some(2.0)));
}

fn rows(path: &Path, config: &ReplaySource) -> (Vec<super::replay::Row>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    super::replay::read_rows(path, config, |row| {
        match row {
            Ok(row) => good.push(row),
            Err(why) => bad.push(why),
        }
        good.len() < 1000
    })
    .unwrap();
    (good, bad)
}

const RECORDING: &str = "timestamp,node,sensor,value\n2004-03-04T00:00:00.154Z,mote-43,temperature,19.5\n\
    noon,mote-43,temperature,1\n2004-03-04T00:00:01Z,mote-44,temperature,20\n2004-03-04T00:00:02Z,mote-43,humidity,NaN\n";

#[test]
fn a_recording_is_mapped_to_channels_and_its_bad_rows_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("r.csv");
    fs::write(&plain, RECORDING).unwrap();
    let packed = dir.path().join("r.csv.gz");
    let mut gzip = flate2::write::GzEncoder::new(fs::File::create(&packed).unwrap(), flate2::Compression::fast());
    gzip.write_all(RECORDING.as_bytes()).unwrap();
    gzip.finish().unwrap();
    let units = BTreeMap::from([("temperature".to_owned(), "°C".to_owned())]);
    let all = ReplaySource { units, ..Default::default() };
    let (good, bad) = rows(&plain, &all);
    assert_eq!(
        good.iter().map(|row| row.channel.as_str()).collect::<Vec<_>>(),
        ["mote-43/temperature", "mote-44/temperature"]
    );
    assert_eq!(good[0].unit.as_deref(), Some("°C"));
    assert!(bad[0].starts_with("line 3: timestamp \"noon\"") && bad[1].starts_with("line 5: value is NaN"), "{bad:?}");
    assert_eq!(rows(&packed, &all).0, good);
    let one = ReplaySource { nodes: BTreeMap::from([("mote-44".to_owned(), "lab".to_owned())]), ..all };
    assert_eq!(rows(&plain, &one).0.iter().map(|row| row.channel.as_str()).collect::<Vec<_>>(), ["lab/temperature"]);
}

#[tokio::test]
async fn a_recording_that_is_not_there_is_an_error_in_status() {
    let config = SourceConfig::Replay(ReplaySource { path: "no/such/file.csv".into(), ..Default::default() });
    let (_, status) = collect(config, |all| !all.is_empty()).await;
    assert!(
        status[0].error.as_ref().unwrap().starts_with("there is no recording no/such/file.csv; SENSORCTL_DATA may")
    );
}

#[test]
fn a_real_recording_is_read() {
    let folder = std::env::var_os("SENSORCTL_DATA").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let path = folder.join("intel-lab-2004-03-04-05.csv.gz");
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return;
    }
    let (good, bad) = rows(&path, &ReplaySource::default());
    assert_eq!((good.len(), bad.len()), (1000, 0));
    assert_eq!(good[0].channel.as_str(), "mote-43/temperature");
    assert!(good.windows(2).all(|pair| pair[0].recorded_ms <= pair[1].recorded_ms), "in order of time");
}

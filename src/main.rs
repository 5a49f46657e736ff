//! `sensorctl`: see `sensorctl::cli`.

fn main() -> std::process::ExitCode {
    sensorctl::cli::main()
}

//! `sensorctl`: see `sensorctl::cli`.

/// What a node holds and sends is small and very much: with the system's allocator an update costs some 30 %
/// more processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sensorctl::cli::main()
}

//! The `tenantry` binary: runs the command line and turns its result into an exit code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    match tenantry::cli::run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("tenantry: {failure}");
            std::process::ExitCode::FAILURE
        }
    }
}

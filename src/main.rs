//! The `strata` command: the exit code of [`strata::cli::run`], nothing else.

fn main() -> std::process::ExitCode {
    strata::cli::run()
}

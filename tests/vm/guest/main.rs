//! What `make vm-test` runs in the guest, a virtual machine with a stock kernel of Debian's, as root.
//!
//! | Command | What |
//! |---|---|
//! | `suites NAME@FILESYSTEM:FILTER...` | the project's own tests, on a file system of that kind; `quotas` are of here |
//! | `life SEED ROUNDS` | stores with volumes over reboots and power cuts |
//! | `record` | work on stores on disks whose every write and flush is recorded |
//! | `replay SEED COUNT FOLDER` | on the host: what was recorded, with power lost at so many points |
//!
//! Results go to `/out/results`, one a line: how many passed, how many failed, and what it was.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test makes and inspects files, runs programs, and says what it does"
)]

#[path = "../../support/mod.rs"]
mod support;

mod chance;
mod disk;
mod images;
mod ledger;
mod life;
mod node;
mod place;
mod power;
mod power_loss;
mod quotas;
mod report;
mod suites;
mod whole;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let passed = match command.as_str() {
        "suites" => suites::run(&rest),
        "life" => match life::run(&rest) {
            life::End::Over { passed } => passed,
            life::End::Reboot => return ExitCode::from(power::REBOOT),
        },
        "record" => power_loss::record::run(),
        "replay" => power_loss::replay::run(&rest),
        _ => {
            println!("vm-guest: no command {command:?}");
            false
        }
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

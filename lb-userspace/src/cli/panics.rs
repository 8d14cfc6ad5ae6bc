//! A task that dies takes the process with it: an agent without one of its tasks looks well and is not. What is in the
//! kernel goes on working, and whatever started the agent starts it again.

use std::io::Write as _;
use std::panic;
use std::process;

/// Exit code of an internal fault (`EX_SOFTWARE` of sysexits.h).
const INTERNAL_FAULT: i32 = 70;

/// From now on a panic in any thread or task ends the process.
pub(super) fn end_the_process() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |fault| {
        tracing::error!(%fault, "internal fault, ending; programs and maps stay in place");
        print(fault);
        let _lost = std::io::stderr().flush();
        process::exit(INTERNAL_FAULT);
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const INSIDE: &str = "SLUICE_TEST_PANICS";

    /// In a process of the same test program, which would go on for ten seconds.
    #[test]
    fn a_task_that_panics_ends_the_process_with_its_message() {
        if let Ok(place) = std::env::var(INSIDE) {
            end_the_process();
            if place == "task" {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(async {
                    tokio::spawn(async { panic!("a task has died") });
                    tokio::time::sleep(Duration::from_secs(10)).await;
                });
            } else {
                thread::spawn(|| panic!("a thread has died"));
                thread::sleep(Duration::from_secs(10));
            }
            return;
        }
        for place in ["task", "thread"] {
            let ended = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "cli::panics::tests::a_task_that_panics_ends_the_process_with_its_message",
                    "--nocapture",
                ])
                .env(INSIDE, place)
                .output()
                .unwrap();
            assert_eq!(ended.status.code(), Some(INTERNAL_FAULT), "{ended:?}");
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(said.contains(&format!("a {place} has died")), "{said}");
        }
    }
}

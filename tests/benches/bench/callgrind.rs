//! User instructions, counted by valgrind: the one figure that is the same on a
//! machine that is busy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use tests::binary::{Function, path_of};

use crate::stage::Settings;

/// Instructions a piece: what `many` events took more than `few`, over `pieces`, so
/// that starting and warming up do not count. The profile of the longer run stays
/// in `.local/callgrind`, named after the case.
pub(crate) async fn instructions(
    (name, case): (&str, &str),
    settings: &Settings,
    (few, many): (Vec<Bytes>, Vec<Bytes>),
    pieces: usize,
) -> f64 {
    let few = run(name, case, settings, few).await;
    let many = run(name, case, settings, many).await;
    (many - few) / pieces as f64
}

fn wrapper(name: &str, log: &Path) -> Vec<String> {
    let profile = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.local/callgrind"));
    fs::create_dir_all(profile).unwrap();
    vec![
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", profile.join(name).display()),
        format!("--log-file={}", log.display()),
    ]
}

fn log_of(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("steadhook-callgrind-{}-{name}", std::process::id()))
}

async fn run(name: &str, case: &str, settings: &Settings, events: Vec<Bytes>) -> f64 {
    let log = log_of(name);
    let function = Function::start_under(&wrapper(&format!("{name}-{case}"), &log), name, settings).await;
    for event in events {
        function.invoke_with(event).await;
    }
    assert!(Command::new("kill").arg(function.pid().to_string()).status().unwrap().success());
    function.ended().await;
    collected(&log)
}

fn collected(log: &Path) -> f64 {
    let text = fs::read_to_string(log).unwrap();
    fs::remove_file(log).unwrap();
    let line = text.lines().find_map(|line| line.split_once("Collected :")).expect("callgrind did not count").1;
    line.trim().parse().unwrap()
}

/// The same of the bare loop, a post.
pub(crate) fn instructions_of_loop(url: &str, payload_bytes: usize, at_once: usize) -> f64 {
    use std::io::Write as _;
    use std::process::Stdio;

    let run = |posts: usize| {
        let log = log_of("reqwest-loop");
        let mut line = wrapper("reqwest-loop", &log).into_iter();
        let mut child = Command::new(line.next().unwrap())
            .args(line)
            .arg(path_of("reqwest-loop"))
            .args([url, &payload_bytes.to_string(), &at_once.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{posts}").unwrap();
        assert!(child.wait().unwrap().success());
        collected(&log)
    };
    let (few, many) = (run(200), run(1200));
    (many - few) / 1000.0
}

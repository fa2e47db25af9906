//! From exec to the first poll, and how large what starts is.

use std::fs;
use std::process::Command;

use tests::binary::{Function, path_of};

use crate::figures::Goal::AtMost;
use crate::figures::{Figures, median};
use crate::stage::Stage;

const STARTS: usize = 15;
/// The binaries that are deployed.
pub(crate) const FUNCTIONS: [&str; 9] =
    ["enqueue", "fanout", "deliver", "archive", "operate", "endpoints", "cleanup", "health", "metrics"];

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    for name in ["deliver", "enqueue"] {
        let (mut cpu, mut wall) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let function = Function::start(name, &stage.settings(&[])).await;
            wall.push(function.polls().await.as_secs_f64() * 1e3);
            cpu.push(function.usage().cpu.as_secs_f64() * 1e3);
        }
        figures.judge(format!("{name}: exec to first poll, CPU"), median(cpu), "ms", AtMost(10.0));
        figures.note(format!("{name}: exec to first poll, wall"), median(wall), "ms");
    }
    for name in FUNCTIONS {
        let path = path_of(name);
        let bytes = fs::metadata(&path).unwrap().len() as f64;
        figures.note(format!("{name}: binary"), bytes / 1_048_576.0, "MiB");
        figures.judge(format!("{name}: zipped"), zipped(&path) / 1_048_576.0, "MiB", AtMost(4.6));
    }
}

fn zipped(path: &std::path::Path) -> f64 {
    let zip = "import sys, zipfile; \
        zipfile.ZipFile(sys.argv[2], 'w', zipfile.ZIP_DEFLATED).write(sys.argv[1], 'bootstrap')";
    let to = std::env::temp_dir().join(format!("steadhook-{}.zip", std::process::id()));
    assert!(Command::new("python3").args(["-c", zip]).args([path, &to]).status().unwrap().success());
    let bytes = fs::metadata(&to).unwrap().len() as f64;
    fs::remove_file(to).unwrap();
    bytes
}

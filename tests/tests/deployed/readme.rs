//! The commands of the README work as they stand, one after another, on a deployed stack.

use std::process::Command;

use tests::stack::Stack;

/// The README's commands, without those of `make`.
fn commands() -> String {
    let readme = include_str!("../../../README.md");
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter(|line| !line.starts_with("make "));
    let mut script: Vec<&str> = lines.collect();
    // A command of `make` goes on in lines that are indented.
    script.retain(|line| !line.starts_with("  ") || !line.contains("Arn="));
    script.join("\n")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn every_command_of_the_readme_works() {
    let stack = Stack::running();
    let home = std::env::temp_dir().join(format!("steadhook-readme-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    // An HTTP error makes the command fail.
    std::fs::write(home.join(".curlrc"), "fail-with-body\n").unwrap();
    let mut script = commands();
    for (written, here) in [
        (". .local/stack.env", ". \"$STEADHOOK_STACK\"".to_owned()),
        ("9000", free_port().to_string()),
        ("9001", free_port().to_string()),
        ("acme", format!("readme-{:08x}", fastrand::u32(..))),
    ] {
        assert!(script.contains(written), "{written}");
        script = script.replace(written, &here);
    }
    for expected in ["steadhook listen", "steadhook doctor", "curl -X POST", "redis-cli", "$METRICS_URL", "kill %1 %2"]
    {
        assert!(script.contains(expected), "{expected}");
    }
    let output = Command::new("bash")
        // Receivers that still run when a command fails would hold the output open.
        .args(["-euo", "pipefail", "-c", &format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}")])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("CURL_HOME", &home)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&home).unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{said}");
    drop(stack);
    // The direct webhook, and the event at the endpoint: each verified with its own secret.
    assert!(said.matches("signature valid").count() >= 2, "{said}");
    assert!(!said.contains("signature invalid"), "{said}");
    for told in ["status          delivered", "\"amount\": 42", "webhook_deliveries_total", "/console/app#code="] {
        assert!(said.contains(told), "{told}: {said}");
    }
}

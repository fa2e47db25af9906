//! What was found, line by line, and what it comes to.

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::Output;
use crate::text::{BAD, BOLD, DIM, GOOD, WAITS, clean_lines, count_of};

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It works, and needs a look.
    Warning,
    Bad,
    /// It was not looked at.
    Skipped,
}

/// What was found at one thing.
#[derive(Debug)]
pub(crate) struct Finding {
    name: &'static str,
    verdict: Verdict,
    told: String,
    next: Option<String>,
}

impl Finding {
    /// It is well.
    pub(crate) fn good(name: &'static str, told: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, told: told.into(), next: None }
    }

    /// It works, and needs a look.
    pub(crate) fn warning(name: &'static str, told: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, told: told.into(), next: Some(next.into()) }
    }

    /// It is not well.
    pub(crate) fn bad(name: &'static str, told: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Bad, told: told.into(), next: Some(next.into()) }
    }

    /// It was not looked at.
    pub(crate) fn skipped(name: &'static str, told: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Skipped, told: told.into(), next: None }
    }

    #[cfg(test)]
    pub(crate) fn told(&self) -> &str {
        &self.told
    }

    fn as_json(&self) -> Value {
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::Warning => "warning",
            Verdict::Bad => "bad",
            Verdict::Skipped => "skipped",
        };
        json!({ "name": self.name, "verdict": verdict, "told": self.told, "next": self.next })
    }

    fn tell(&self) {
        let (mark, style) = match self.verdict {
            Verdict::Good => ("ok", GOOD),
            Verdict::Warning => ("!!", WAITS),
            Verdict::Bad => ("XX", BAD),
            Verdict::Skipped => ("--", DIM),
        };
        let told = clean_lines(&self.told).replace('\n', "\n                 ");
        anstream::println!("{style}{mark}{style:#}  {BOLD}{:<13}{BOLD:#}{told}", self.name);
        if let Some(next) = &self.next {
            anstream::println!("                 → {}", clean_lines(next).replace('\n', "\n                   "));
        }
    }
}

/// All that was found so far. Text is written as it is found: some of it takes a while.
pub(crate) struct Checkup {
    output: Output,
    findings: Vec<Finding>,
}

impl Checkup {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, findings: Vec::new() }
    }

    /// Notes a finding.
    pub(crate) fn note(&mut self, finding: Finding) {
        if self.output == Output::Text {
            finding.tell();
        }
        self.findings.push(finding);
    }

    /// What it comes to. `trouble` is why the API could not be asked.
    ///
    /// # Errors
    /// That something is wrong.
    pub(crate) fn end(self, trouble: Result<(), Failure>) -> Result<(), Failure> {
        let count = |verdict| self.findings.iter().filter(|finding| finding.verdict == verdict).count();
        let (bad, warnings) = (count(Verdict::Bad), count(Verdict::Warning));
        match self.output {
            Output::Json => {
                let findings: Vec<Value> = self.findings.iter().map(Finding::as_json).collect();
                crate::output::json(&json!({ "well": bad == 0, "findings": findings }).to_string());
            }
            Output::Text if bad == 0 && warnings == 0 => anstream::println!("\n{GOOD}All is well.{GOOD:#}"),
            Output::Text if bad == 0 => {
                anstream::println!("\nIt works, and {} a look.", count_of(warnings, "thing needs", "things need"));
            }
            Output::Text => {}
        }
        let wrong = count_of(bad, "thing is wrong", "things are wrong");
        match (bad, trouble) {
            (0, Ok(())) => Ok(()),
            (_, Ok(()) | Err(Failure::Refused(_))) => Err(Failure::Refused(wrong)),
            (_, Err(Failure::Usage(_))) => Err(Failure::Usage(format!("{wrong}, and the API was not asked"))),
            (_, Err(Failure::Unreachable(_))) => {
                Err(Failure::Unreachable(format!("{wrong}, and the API was not reached")))
            }
        }
    }
}

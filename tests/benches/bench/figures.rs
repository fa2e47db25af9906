//! The figures of one run, and the page they make.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
        }
    }
}

struct Figure {
    measure: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
}

/// All figures so far, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// Notes a figure without a goal.
    pub(crate) fn note(&mut self, measure: impl Into<String>, value: f64, unit: &'static str) {
        self.push(measure.into(), value, unit, None);
    }

    /// Notes a figure beside its goal.
    pub(crate) fn judge(&mut self, measure: impl Into<String>, value: f64, unit: &'static str, goal: Goal) {
        self.push(measure.into(), value, unit, Some(goal));
    }

    /// Compares the instructions of a path with those that are kept in `tests/benches/instructions.json`. `KEEP=true` keeps
    /// these instead.
    #[allow(clippy::disallowed_methods, reason = "a setting of the benchmark, not of the product")]
    pub(crate) fn compare(&mut self, path: &str, instructions: f64) {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.json"));
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut kept: BTreeMap<String, f64> = serde_json::from_str(&text).unwrap_or_default();
        let before = kept.insert(path.to_owned(), instructions.round());
        if std::env::var_os("KEEP").is_some() {
            fs::write(file, format!("{:#}\n", json!(kept))).unwrap();
        }
        let Some(before) = before else { return };
        self.judge(format!("  by what {path} took when it was kept"), instructions / before, "×", Goal::AtMost(1.03));
        if instructions > before * 1.03 {
            println!(
                "  `make bench PROFILE=profiling` and `callgrind_annotate .local/callgrind/{path}` show where; KEEP=true keeps it"
            );
        }
    }

    fn push(&mut self, measure: String, value: f64, unit: &'static str, goal: Option<Goal>) {
        let figure = Figure { measure, value, unit, goal };
        println!("{}", figure.line());
        self.0.push(figure);
    }

    /// Writes all figures as JSON.
    pub(crate) fn write(&self, path: &Path) {
        let rows: Vec<Value> = self.0.iter().map(Figure::json).collect();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{:#}\n", Value::Array(rows))).unwrap();
    }

    /// Says which goals were missed.
    pub(crate) fn missed(&self) -> Vec<String> {
        self.0.iter().filter(|figure| figure.met() == Some(false)).map(Figure::line).collect()
    }
}

impl Figure {
    fn met(&self) -> Option<bool> {
        self.goal.map(|goal| goal.met(self.value))
    }

    fn json(&self) -> Value {
        // Four digits are more than the machine is worth.
        let digits = 10f64.powi(4 - self.value.abs().max(1e-9).log10().ceil().clamp(-4.0, 4.0) as i32);
        json!({
            "measure": self.measure,
            "value": (self.value * digits).round() / digits,
            "unit": self.unit,
            "goal": self.goal.map(Goal::text),
            "met": self.met(),
        })
    }

    fn line(&self) -> String {
        let value = match self.value.abs() {
            0.0 => "0".to_owned(),
            ..10.0 => format!("{:.2}", self.value),
            ..100.0 => format!("{:.1}", self.value),
            _ => format!("{:.0}", self.value),
        };
        let goal = match self.goal {
            None => String::new(),
            Some(goal) if goal.met(self.value) => format!("  {:<12} met", goal.text()),
            Some(goal) => format!("  {:<12} MISSED", goal.text()),
        };
        format!("{:<66} {value:>10} {:<8}{goal}", self.measure, self.unit)
    }
}

/// The middle one of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that this share of the values does not exceed.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil().max(1.0);
    values[rank as usize - 1]
}

//! The styles as one file: what `style.css` imports, in its order.

use std::io;

use crate::Texts;

/// The file that imports the others.
const ROOT: &str = "style.css";

pub(crate) fn packed(styles: &Texts) -> io::Result<Texts> {
    let root = styles.get(ROOT).ok_or_else(|| io::Error::other("there is no style.css"))?;
    let mut all = String::new();
    for line in root.lines() {
        let import = line.strip_prefix("@import \"./").and_then(|rest| rest.strip_suffix("\";"));
        match import {
            Some(name) => {
                all.push_str(styles.get(name).ok_or_else(|| io::Error::other(format!("there is no {name}")))?)
            }
            None => all.push_str(line),
        }
        all.push('\n');
    }
    Ok(Texts::from([(ROOT.to_owned(), all)]))
}

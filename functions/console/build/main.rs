//! Packs the app into the binary, as few files: each is a request, and each request that comes
//! at the same time is an instance of the function. All but the page itself are served below a
//! folder whose name is the hash of everything, so that a browser may keep them for ever.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a build talks to cargo so, and is told by it")]

mod scripts;
mod styles;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

/// The page, which is served by this name and not below the hash.
const PAGE: &str = "index.html";
/// What stands in the page for the name of the folder.
const FOLDER: &str = "%ASSETS%";
/// The characters of the hash.
const HASH: usize = 16;

/// Texts of files, by their names below `app/`.
type Texts = BTreeMap<String, String>;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=app");
    println!("cargo::rerun-if-changed=build");
    let mut texts = Texts::new();
    read(Path::new("app"), "", &mut texts)?;
    let (scripts, others): (Texts, Texts) = texts.into_iter().partition(|(name, _)| name.ends_with(".js"));
    let (styles, mut files): (Texts, Texts) = others.into_iter().partition(|(name, _)| name.ends_with(".css"));
    files.extend(scripts::packed(&scripts)?);
    files.extend(styles::packed(&styles)?);
    let hash = hash(&files);
    if let Some(page) = files.get_mut(PAGE) {
        *page = page.replace(FOLDER, &hash);
    }
    write(&files, &hash)
}

fn read(folder: &Path, prefix: &str, texts: &mut Texts) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &format!("{name}/"), texts)?;
        } else {
            texts.insert(name, fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}

/// The hash of all names and texts.
fn hash(files: &Texts) -> String {
    let mut hash = Sha256::new();
    for part in files.iter().flat_map(|(name, text)| [name, text]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.chars().take(HASH).collect()
}

/// Writes every file, as it is and compressed, and the table of them.
fn write(files: &Texts, hash: &str) -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("there is no OUT_DIR"))?);
    let mut table = format!("pub(crate) const FOLDER: &str = \"{hash}\";\npub(crate) static FILES: &[File] = &[\n");
    for (number, (name, text)) in files.iter().enumerate() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(text.as_bytes())?;
        fs::write(out.join(number.to_string()), text)?;
        fs::write(out.join(format!("{number}.gz")), packed.finish()?)?;
        let include = |end: &str| format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{number}{end}\"))");
        let (plain, packed) = (include(""), include(".gz"));
        writeln!(table, "    File {{ name: {name:?}, plain: {plain}, packed: {packed} }},")
            .map_err(io::Error::other)?;
    }
    table.push_str("];\n");
    fs::write(out.join("files.rs"), table)
}

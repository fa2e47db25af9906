//! The files of the app, which the build packed into the binary.

/// A file of the app.
#[derive(Debug)]
pub(crate) struct File {
    /// Its name below `app/`.
    pub(crate) name: &'static str,
    /// What is in it.
    pub(crate) plain: &'static [u8],
    /// The same, compressed with gzip.
    pub(crate) packed: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The page of the app.
pub(crate) const PAGE: &str = "index.html";
/// Where the page is, below `/console/`. Whether a gateway's routes match a path that ends with
/// a slash is not said anywhere, so links do not depend on it.
pub(crate) const APP: &str = "app";

/// The file that a path below `/console/` names: the page, or a file below the folder whose name
/// is the hash of all files.
pub(crate) fn find(path: &str) -> Option<&'static File> {
    let name = match path {
        "" | APP => PAGE,
        path => path.strip_prefix(FOLDER)?.strip_prefix('/').filter(|name| *name != PAGE)?,
    };
    FILES.iter().find(|file| file.name == name)
}

/// What kind of text a file holds.
pub(crate) fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

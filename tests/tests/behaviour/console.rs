//! The function `console`: what it serves, and with which headers.

use std::collections::{BTreeMap, BTreeSet};

use fn_console::config::Config;
use fn_console::{Console, folder, sizes};
use lambda_http::http::Response;
use lambda_http::{Body, Request};

fn get(path: &str, headers: &[(&'static str, &str)]) -> Response<Body> {
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = format!("http://api{path}").parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    Console::new(&Config { frame_ancestors: "https://shop.example".to_owned() }).handle(&request)
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn the_page_names_files_that_never_change() {
    let page = get("/console/app", &[]);
    assert_eq!((page.status().as_u16(), header(&page, "content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(header(&page, "cache-control"), "no-cache");
    let text = String::from_utf8(page.body().to_vec()).unwrap();
    assert!(!text.contains("%ASSETS%"));
    let files: Vec<&str> = text.split('"').filter(|part| part.starts_with(folder())).collect();
    assert_eq!(files.len(), 3, "styles, script and icon: {text}");
    for file in files {
        let found = get(&format!("/console/{file}"), &[]);
        assert_eq!(
            (found.status().as_u16(), header(&found, "cache-control")),
            (200, "public, max-age=31536000, immutable"),
            "{file}"
        );
    }
    for missing in [
        "/console/main.js",
        "/console/0000/main.js",
        "/console/index.html",
        "/console//",
        "/console/app/",
        "/consoles",
        "/",
    ] {
        let answer = get(missing, &[]);
        assert_eq!((answer.status().as_u16(), header(&answer, "cache-control")), (404, "no-store"), "{missing}");
    }
    assert!(get(&format!("/console/{}/../../Cargo.toml", folder()), &[]).status().is_client_error());
    let elsewhere = get("/console/sessions", &[]);
    assert_eq!((elsewhere.status().as_u16(), header(&elsewhere, "allow")), (405, "POST"));
    let redirect = get("/console", &[]);
    assert_eq!((redirect.status().as_u16(), header(&redirect, "location")), (308, "console/app"));
}

#[test]
fn nothing_runs_that_is_not_a_file_of_the_app() {
    for path in ["/console/app", "/console", "/console/nothing", &format!("/console/{}/main.js", folder())] {
        let answer = get(path, &[]);
        let policy = header(&answer, "content-security-policy");
        assert_eq!(
            policy,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors https://shop.example",
            "{path}"
        );
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(header(&answer, "referrer-policy"), "no-referrer");
    }
    let page = String::from_utf8(get("/console/app", &[]).body().to_vec()).unwrap();
    for inline in ["<style", "style=", "onclick", "onload", "javascript:", "http://", "https://"] {
        assert!(!page.contains(inline), "{inline}");
    }
    let scripts = page.matches("<script").count();
    assert_eq!(scripts, page.matches("<script type=\"module\" src=").count());
}

#[test]
fn files_are_compressed_for_those_who_take_it() {
    let path = format!("/console/{}/main.js", folder());
    let plain = get(&path, &[]);
    let packed = get(&path, &[("accept-encoding", "br;q=1.0, gzip;q=0.8")]);
    assert_eq!((header(&plain, "content-encoding"), header(&packed, "content-encoding")), ("", "gzip"));
    assert!(packed.body().len() < plain.body().len());
    assert_eq!(packed.body()[..2], [0x1f, 0x8b]);
    assert_eq!(header(&packed, "vary"), "accept-encoding");
    for refused in ["gzip;q=0", "br", "identity"] {
        assert_eq!(header(&get(&path, &[("accept-encoding", refused)]), "content-encoding"), "", "{refused}");
    }
    let known = get("/console/app", &[("if-none-match", header(&plain, "etag"))]);
    assert_eq!((known.status().as_u16(), known.body().len()), (304, 0));
}

#[test]
fn the_first_view_has_at_most_sixty_kilobytes() {
    let first = ["index.html", "style.css", "main.js", "icon.svg"];
    let sizes: BTreeMap<&str, usize> = sizes().collect();
    let loaded: Vec<usize> = first.iter().map(|name| sizes[name]).collect();
    let total: usize = loaded.iter().sum();
    assert!((10_000..=60 * 1024).contains(&total), "{total}: {sizes:?}");
    // Each file is a request, and each request at the same time is an instance of the function.
    let files: BTreeSet<&str> = sizes.into_keys().collect();
    assert_eq!(files, BTreeSet::from_iter(first.into_iter().chain(["screens.js"])));
}

//! `completions` and `man`: what a package of this command installs beside it.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;

/// Writes completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(steadhook completions bash)
  steadhook completions zsh > ~/.zfunc/_steadhook
  steadhook completions fish > ~/.config/fish/completions/steadhook.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_parser = clap::builder::EnumValueParser::<Shell>::new())]
    shell: Shell,
}

/// Writes the man pages
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  steadhook man | man -l -
  steadhook man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// A folder for the pages of all commands. Without it, the main page goes to standard output
    folder: Option<PathBuf>,
}

/// Writes completions.
///
/// # Errors
/// When nothing can be written.
pub(crate) fn complete(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "steadhook", &mut script);
    print(&script)
}

/// Writes man pages.
///
/// # Errors
/// When nothing can be written.
pub(crate) fn write(arguments: &Man) -> Result<(), Failure> {
    let unwritten = |error: std::io::Error| Failure::Usage(format!("the man pages cannot be written: {error}"));
    match &arguments.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(unwritten)?;
            clap_mangen::generate_to(Arguments::command(), folder).map_err(unwritten)
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page).map_err(unwritten)?;
            print(&page)
        }
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    std::io::stdout()
        .lock()
        .write_all(bytes)
        .map_err(|error| Failure::Usage(format!("nothing can be written: {error}")))
}

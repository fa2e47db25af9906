//! What is typed: the commands, and the options that all of them take.

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use crate::commands::Command;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Output;

/// Exit codes and the environment, below the help of `steadhook`.
const AFTER: &str = "\
Exit codes:
  0  done
  1  refused: the answer is no, or what was looked at is not well
  2  usage: it cannot be done as it is written
  3  no answer, or none yet: trying again may help

Credentials:
  Requests are signed with the credentials of the usual AWS chain: environment, profile, SSO, role.
  With STEADHOOK_TOKEN set, they carry that token instead.

Examples:
  steadhook send --tenant acme --type order.paid '{\"order\": 17}' --wait
  steadhook send --to https://example.com/hooks @payload.json
  steadhook dead-letters list --reason retries_exhausted --since 1d
  steadhook --stack hooks-prod doctor";

/// The command line of Steadhook, which delivers webhooks so that none is lost
#[derive(Parser)]
#[command(name = "steadhook", version, after_help = AFTER, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// How results are written: text, or json as the API answered
    #[arg(
        long = "output",
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORM",
        hide_possible_values = true
    )]
    form: Output,
    #[command(subcommand)]
    command: Command,
}

/// Reads the command line. What cannot be read ends the process with exit code 2.
///
/// # Errors
/// When options contradict each other.
pub(crate) fn read() -> Result<(Connection, Output, Command), Failure> {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let connection = arguments.connection.settle(|name| matches.value_source(name))?;
    Ok((connection, arguments.form, arguments.command))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The help of all commands, below each other.
    fn help(command: clap::Command) -> String {
        let name = command.get_bin_name().unwrap_or("steadhook").to_owned();
        let mut text = format!("$ {name} --help\n{}\n\n", command.clone().render_help());
        for sub in command.get_subcommands() {
            text.push_str(&help(sub.clone()));
        }
        text
    }

    #[test]
    fn the_commands_fit_together() {
        Arguments::command().debug_assert();
    }

    /// `STEADHOOK_WRITE=1 cargo test --package cli` writes it.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test's setting, not the product's")]
    fn the_help_of_every_command_is_in_the_repository() {
        let mut command = Arguments::command().term_width(100);
        command.build();
        let help: String = help(command).lines().map(|line| format!("{}\n", line.trim_end())).collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/help.txt");
        if std::env::var_os("STEADHOOK_WRITE").is_some() {
            std::fs::write(path, &help).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == help,
            "infra/cli/help.txt is not what --help says: STEADHOOK_WRITE=1 cargo test --package cli writes it"
        );
    }
}

//! The commands. Each file has its arguments and what it does; none imports another one.

pub(crate) mod call;
pub(crate) mod console;
pub(crate) mod dead_letters;
pub(crate) mod doctor;
pub(crate) mod endpoints;
pub(crate) mod events;
pub(crate) mod listen;
pub(crate) mod manual;
pub(crate) mod redrive;
pub(crate) mod replay;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod tokens;
pub(crate) mod verify;

use clap::Subcommand;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Output;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Send(send::Arguments),
    Status(status::Arguments),
    Tail(tail::Arguments),
    Events(events::Arguments),
    Endpoints(endpoints::Arguments),
    DeadLetters(dead_letters::Arguments),
    Redrive(redrive::Arguments),
    Replay(replay::Arguments),
    Tokens(tokens::Arguments),
    Verify(verify::Arguments),
    Listen(listen::Arguments),
    Console(console::Arguments),
    Doctor(doctor::Arguments),
    Call(call::Arguments),
    Completions(manual::Completions),
    Man(manual::Man),
}

/// Does it.
///
/// # Errors
/// Why it was not done.
pub(crate) async fn run(connection: &Connection, output: Output, command: Command) -> Result<(), Failure> {
    match command {
        Command::Send(arguments) => send::run(connection, output, arguments).await,
        Command::Status(arguments) => status::run(connection, output, arguments).await,
        Command::Tail(arguments) => tail::run(connection, output, arguments).await,
        Command::Events(arguments) => events::run(connection, output, arguments).await,
        Command::Endpoints(arguments) => endpoints::run(connection, output, arguments).await,
        Command::DeadLetters(arguments) => dead_letters::run(connection, output, arguments).await,
        Command::Redrive(arguments) => redrive::run(connection, output, arguments).await,
        Command::Replay(arguments) => replay::run(connection, output, arguments).await,
        Command::Tokens(arguments) => tokens::run(connection, output, arguments).await,
        Command::Verify(arguments) => verify::run(output, &arguments),
        Command::Listen(arguments) => listen::run(connection, output, arguments).await,
        Command::Console(arguments) => console::run(connection, output, arguments).await,
        Command::Doctor(arguments) => doctor::run(connection, output, arguments).await,
        Command::Call(arguments) => call::run(connection, arguments).await,
        Command::Completions(arguments) => manual::complete(&arguments),
        Command::Man(arguments) => manual::write(&arguments),
    }
}

//! `steadhook`, the command line of a stack: it calls the API as any other client does, signed with the credentials of the
//! usual AWS chain or with a token. The rules that it shows come from `domain`. It has nothing that only a server needs.

mod api;
mod arguments;
mod capture;
mod client;
mod clock;
mod commands;
mod connection;
mod delivery;
mod failure;
mod follow;
mod input;
mod output;
mod table;
mod target;
mod text;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match arguments::read() {
        Ok((connection, output, command)) => commands::run(&connection, output, command).await,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            failure.exit_code()
        }
    }
}

//! Deployed: the real binaries, alone and as the template deploys them to the local AWS.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

mod attack;
mod binaries;
mod cli;
mod clients;
mod console;
mod contract;
mod dependencies;
mod end_to_end;
mod events;
mod faults;
mod logs;
mod permissions;
mod prometheus;
mod readme;
mod receiving;
mod runbook;
mod tokens;
mod torture;

//! The program as its users meet it: a file for each command or group of flags. One
//! binary, as each is linked and started alone.

mod ab;
mod cli;
mod codec;
mod compare;
mod export;
mod faulty_servers;
mod flags_connect;
mod flags_extra_connections;
mod flags_load;
mod flags_messages;
mod flags_output;
mod flags_tls;
mod history;
mod interrupt;
mod other_commands;
mod report;
mod server_process;
mod sinks;
mod slices;
mod start_at;
mod support;
mod sweep;

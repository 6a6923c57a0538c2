//! The daemon around the protocol: options, devices, sockets.
//!
//! | module | knows |
//! |---|---|
//! | [`args`] | the command line |
//! | [`config_file`] | the same options from a file |
//! | [`rate_limits`] | rate limits as words |
//! | [`groups`] | budgets that devices share |
//! | [`inherited`] | descriptors that were handed over, by number or by name |
//! | [`frame_backend`] | other places for frames than a tap |
//! | [`exit_status`] | the status that the process ends with |
//! | [`capture`] | frames to a file |
//! | [`device_plan`] | the devices that a command line describes |
//! | [`listener`] | a socket to listen at: its path, who may connect, when to accept |
//! | `clients` | those who are connected to one of the next two |
//! | [`control_socket`] | an operator's commands to the running daemon |
//! | [`metrics`] | counters and states in Prometheus' text format |
//! | [`metrics_socket`] | the endpoint that gives them to who asks |
//! | `event_loop` | the one wait of a device's thread |
//! | [`sandbox`] | what the process gives up once everything is open |
//! | `broker` | the process that does what takes a path or a privilege after that |
//! | `programs` | programs of the kernel's that it is handed |
//! | `notify` | the service manager's socket |
//! | `requests` | one request of a front-end, and its answer |
//! | `upkeep` | what a session needs between two requests |
//! | `receiver_process` | the process that receives a front-end's messages |
//! | [`serve`] | where the front-ends of a device come from, and the conversations with them |
//! | [`served_devices`] | the devices of the process, each with its thread |
//! | [`log_format`] | the log as text or as JSON |
//! | [`log_text`] | errors and devices in the words of the log |

pub mod args;
mod broker;
pub mod capture;
mod clients;
pub mod config_file;
pub mod control_socket;
pub mod device_plan;
mod event_loop;
pub mod exit_status;
pub mod frame_backend;
pub mod groups;
pub mod inherited;
pub mod listener;
pub mod log_format;
pub mod log_text;
pub mod metrics;
pub mod metrics_socket;
mod notify;
pub mod programs;
pub mod rate_limits;
mod receiver_process;
pub(crate) mod requests;
pub mod sandbox;
pub mod serve;
pub mod served_devices;
mod upkeep;

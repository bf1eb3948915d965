//! Why a worker ended although nobody asked it to.

/// Why a worker could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The scheduler addresses cannot be used.
    #[error(transparent)]
    Address(#[from] tasklease_client::AddressError),
    /// An option breaks a rule.
    #[error("option {option}: {why}")]
    Option {
        /// The option as typed on the command line.
        option: &'static str,
        /// The rule, and the value that breaks it.
        why: String,
    },
    /// Two tasks were registered for one type.
    #[error("task type `{0}` is registered twice; give each task its own type")]
    DuplicateType(&'static str),
    /// No task was registered.
    #[error("no task type is registered; call `register` before `run`")]
    NoTypes,
    /// The scheduler does not accept the worker's hello.
    #[error("the scheduler refuses this worker: {0}")]
    Refused(String),
    /// The operating system refused a thread or a signal handler.
    #[error("cannot start the worker: {0}")]
    System(#[from] std::io::Error),
    /// The thread of the protocol ended without a result, which is a bug of this crate.
    #[error("the protocol thread ended unexpectedly")]
    ProtocolEnded,
}

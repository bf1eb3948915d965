//! `unary`: one task per call, many callers.

use serde_json::json;

use crate::{
    phases,
    report::Report,
    server::Server,
    stand::{Fleet, Stand},
};

/// Options of `unary`.
#[derive(clap::Args)]
pub(crate) struct Unary {
    /// Concurrent callers.
    #[arg(long, default_value_t = 64)]
    callers: usize,
    /// Tasks in all.
    #[arg(long, default_value_t = 50_000)]
    tasks: usize,
}

impl Unary {
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        let server = Server::start().await?;
        let stand = Stand::start(&server, "bench", Fleet::single(1)).await?;
        let figures = phases::unary(&stand, self.callers, self.tasks).await?.figures();
        stand.end().await?;
        let parameters = json!({ "callers": self.callers, "tasks": self.tasks });
        Ok(Report::new("unary", parameters, figures))
    }
}

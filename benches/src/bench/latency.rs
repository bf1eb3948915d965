//! `latency`: from submit to the start of the task's code, idle or at a steady rate.

use serde_json::json;

use crate::{
    report::Report,
    server::Server,
    stand::{Fleet, Stand},
    steady,
};

/// Options of `latency`.
#[derive(clap::Args)]
pub(crate) struct Latency {
    /// How many tasks; by default 1000, or what the rate gives in ten seconds.
    #[arg(long)]
    samples: Option<usize>,
    /// Tasks a second, whether or not those before have ended; 0 sends one when the one before has ended.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Slots of the worker.
    #[arg(long, default_value_t = 100)]
    slots: u32,
}

impl Latency {
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        let server = Server::start().await?;
        let mut stand = Stand::start(&server, "bench", Fleet::single(self.slots)).await?;
        stand.start_workers().await?;
        let samples = self.samples.unwrap_or(match self.rate {
            0 => 1_000,
            rate => usize::try_from(rate)? * 10,
        });
        let taken = match self.rate {
            0 => steady::one_by_one(&stand, samples).await?,
            rate => steady::at_rate(&stand, rate, samples).await?,
        };
        stand.end().await?;
        let parameters = json!({ "samples": samples, "rate": self.rate, "slots": self.slots });
        Ok(Report::new("latency", parameters, steady::percentiles(&taken)?))
    }
}

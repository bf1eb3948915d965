//! Runs one benchmark command against graphile_worker and prints its figures.

mod commands;
mod options;
mod queue;
mod report;

use anyhow::Result;
use clap::Parser;
use tokio_postgres::NoTls;

use crate::options::Options;

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let (client, connection) = tokio_postgres::connect(&options.url, NoTls).await?;
    let connection = tokio::spawn(connection);
    let figures = commands::run(&options, &client).await?;
    drop(client);
    connection.await??;
    println!("{figures}");
    Ok(())
}

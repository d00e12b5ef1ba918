//! `alarms …`: what is open, and what an operator says to it.
use super::{Talk, queue};
use clap::Subcommand;
use std::process::ExitCode;
use waystation::alarms::{Answer, ChannelRow, Listing, Meant, Order};
use waystation::base::units::Span;
use waystation::control::protocol::Request;

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List open incidents, silences, and messages that wait
    Ls,
    /// Take an incident: no more reminders, unless it gets worse
    Ack {
        /// The incident's number
        incident: u64,
        /// Why, or what is being done
        #[arg(long)]
        reason: String,
    },
    /// Hear nothing of an incident, a kind, or one name of a kind for a time
    Silence {
        /// An incident's number, a kind (destination_down), or kind:name (destination_down:vna)
        meant: Meant,
        /// How long, as "4h" or "3days"
        #[arg(long = "for", value_name = "TIME")]
        span: Span,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// End a silence
    Unsilence {
        /// As it was silenced
        meant: Meant,
    },
    /// Send a test message to every channel, and say what each answered
    Test,
}

pub async fn run(verb: Verb, talk: &Talk) -> ExitCode {
    let order = match verb {
        Verb::Ls => Order::List,
        Verb::Ack { incident, reason } => Order::Ack { incident, reason },
        Verb::Silence { meant, span, reason } => Order::Silence { meant, span, reason },
        Verb::Unsilence { meant } => Order::Unsilence { meant },
        Verb::Test => Order::Test,
    };
    queue::ask(&Request::Alarms { order }, talk).await
}

/// Whether a channel did not take its test message.
#[must_use]
pub fn failed(answer: &Answer) -> bool {
    matches!(answer, Answer::Tested { channels } if channels.iter().any(|channel| channel.error.is_some()))
}

/// The answer for a person.
pub fn show(answer: &Answer) {
    match answer {
        Answer::Done { message } => println!("{message}"),
        Answer::Tested { channels } => channels.iter().for_each(print_channel),
        Answer::Listing(listing) => print_listing(listing),
    }
}

fn print_channel(channel: &ChannelRow) {
    let said = channel.error.as_deref().unwrap_or("delivered");
    println!("{}: {said}", channel.name);
}

fn print_listing(listing: &Listing) {
    if listing.incidents.is_empty() {
        println!("nothing is wrong");
    }
    for row in &listing.incidents {
        println!(
            "{:>4}  {:<6}  {:<12}  since {}  {}",
            row.incident, row.severity, row.state, row.since, row.title
        );
        for affected in &row.affected {
            println!("      {affected}");
        }
        if let (Some(who), Some(reason)) = (&row.acknowledged_by, &row.reason) {
            println!("      acknowledged by {who}: {reason}");
        }
        println!("      {}", row.runbook);
    }
    for silence in &listing.silences {
        println!(
            "silenced: {} until {} by {}: {}",
            silence.meant, silence.until, silence.who, silence.reason
        );
    }
    for channel in listing.channels.iter().filter(|channel| channel.waiting > 0) {
        let error = channel.error.as_deref().unwrap_or("not tried yet");
        println!("{}: {} messages wait: {error}", channel.name, channel.waiting);
    }
}

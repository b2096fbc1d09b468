//! Functions of this program as worker processes, in a pipeline that is said in code.
//!
//! ```text
//! cargo run --example functions
//! ```

use std::error::Error;
use std::thread;

use mpflow::pipeline::{Edge, Format, Stage};
use mpflow::{Engine, Functions, Pipeline, Stdio};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    id: u32,
    amount: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Invoice {
    id: u32,
    cents: u64,
}

/// What comes out: an invoice, or what is said of an order that failed.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Outcome {
    Done(Invoice),
    Failed { record: Order, error: String },
}

fn bill(order: Order) -> Result<Invoice, std::num::ParseFloatError> {
    let amount: f64 = order.amount.parse()?;
    Ok(Invoice { id: order.id, cents: (amount * 100.0).round() as u64 })
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let functions = Functions::new().try_map("bill", bill);
    // Workers are this program, started again: in them, `init` does not return.
    mpflow::init(&functions);

    let pipeline = Pipeline::builder("invoices")
        .stage("bill", Stage::function("bill").pool(2))
        .edge(Edge::queue("stdin -> bill -> stdout").format(Format::Json))
        .edge(Edge::queue("bill.failed -> stdout"))
        .build()?;
    let run = Engine::new().stdin(Stdio::Values).stdout(Stdio::Values).start(&pipeline)?;

    let input = run.input::<Order>()?;
    let sender = thread::spawn(move || {
        let amounts = ["12.50", "7", "a lot", "0.99"];
        let orders = amounts.iter().zip(1..).map(|(amount, id)| Order { id, amount: (*amount).to_owned() });
        orders.into_iter().try_for_each(|order| input.send(&order))
    });
    let mut lines = Vec::new();
    for outcome in run.output::<Outcome>()? {
        lines.push(match outcome? {
            Outcome::Done(invoice) => format!("order {}: {} cents", invoice.id, invoice.cents),
            Outcome::Failed { record, error } => format!("order {}: {error}", record.id),
        });
    }
    sender.join().expect("the sender does not panic")?;
    run.wait();

    // Two workers, and no order asked for.
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

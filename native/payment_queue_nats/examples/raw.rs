//! The floor of bench/nats.exs: async-nats alone. Prints publishes and settled deliveries per second.
//!
//! Arguments: address, items, number in flight, name of the stream.

use async_nats::jetstream::{self, consumer::PullConsumer, consumer::pull, stream};
use futures_util::{StreamExt, stream::iter};
use std::time::Instant;

fn main() -> Result<(), async_nats::Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let (address, items, flight) = (arguments[1].clone(), arguments[2].parse()?, arguments[3].parse()?);
    let stream = format!("raw_{}", arguments[4]);
    payment_queue_nats::block_on(run(address, items, flight, stream))
}

async fn run(address: String, items: usize, flight: usize, name: String) -> Result<(), async_nats::Error> {
    let client = async_nats::connect(address).await?;
    let context = jetstream::new(client);
    let config = stream::Config {
        name: name.clone(),
        subjects: vec![name.clone()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    let stream = context.create_stream(config).await?;

    let begin = Instant::now();
    iter(0..items)
        .for_each_concurrent(flight, |n| {
            let (context, subject) = (context.clone(), name.clone());
            async move {
                let message = jetstream::message::PublishMessage::build()
                    .payload(vec![b'x'; 100].into())
                    .message_id(n.to_string());
                let ack = context.send_publish(subject, message).await.expect("a publish");
                ack.await.expect("an ack");
            }
        })
        .await;
    let publish = items as f64 / begin.elapsed().as_secs_f64();

    let config = pull::Config { durable_name: Some("raw".into()), max_ack_pending: -1, ..Default::default() };
    let consumer: PullConsumer = stream.create_consumer(config).await?;
    let begin = Instant::now();
    let messages = consumer.stream().max_messages_per_batch(4 * flight).messages().await?;
    messages
        .take(items)
        .for_each_concurrent(flight, |message| async {
            message.expect("a message").double_ack().await.expect("a confirmation");
        })
        .await;
    println!("{} {}", publish as u64, (items as f64 / begin.elapsed().as_secs_f64()) as u64);
    Ok(())
}

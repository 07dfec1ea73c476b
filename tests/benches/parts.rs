//! Times the parts of bmpd on the way of every route, in this process.

use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use lab::parts::{MeasuredPart, PARTS, resolutions};

const ROUTES: usize = 1_000_000;

fn tables(criterion: &mut Criterion) {
    for (group, name, make) in PARTS {
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(ROUTES as u64)).sample_size(20);
        group.bench_function(name, |bencher| measure(bencher, make(ROUTES).as_mut()));
    }
}

fn pins(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pin");
    for interfaces in [8, 1000] {
        for (connect, mut part) in resolutions(interfaces) {
            group.bench_function(format!("resolve {connect} of {interfaces}"), |bencher| bencher.iter(|| part.run()));
        }
    }
}

fn measure(bencher: &mut Bencher<'_>, part: &mut dyn MeasuredPart) {
    bencher.iter_custom(|times| {
        (0..times).fold(Duration::ZERO, |sum, _| {
            part.before();
            let began = Instant::now();
            part.run();
            sum + began.elapsed()
        })
    });
}

criterion_group!(benches, tables, pins);
criterion_main!(benches);

//! The binding against the CPU plugin that the test command installs.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use templar_pjrt::{Argument, Buffer, Client, CompileOptions, Error, OptionValue, Plugin};

/// A client of the CPU plugin; `None` where these tests are left out.
fn client(devices: i64) -> Option<Client> {
    let plugin = Plugin::load(&templar_pjrt::testing::cpu_plugin()?, &[]).unwrap();
    Some(plugin.client(&[("cpu_device_count".into(), OptionValue::Int(devices))]).unwrap())
}

const AXPY: &str = r"
module @axpy {
  func.func public @main(%x: tensor<4xf32> {tf.aliasing_output = 0 : i32}, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<f32>) {
    %two = stablehlo.constant dense<2.0> : tensor<4xf32>
    %scaled = stablehlo.multiply %x, %two : tensor<4xf32>
    %sum = stablehlo.add %scaled, %y : tensor<4xf32>
    %zero = stablehlo.constant dense<0.0> : tensor<f32>
    %total = stablehlo.reduce(%sum init: %zero) applies stablehlo.add across dimensions = [0] : (tensor<4xf32>, tensor<f32>) -> tensor<f32>
    return %sum, %total : tensor<4xf32>, tensor<f32>
  }
}";

fn upload(client: &Client, data: &[f32]) -> Vec<Buffer> {
    vec![client.upload(data, &[data.len()], 0).unwrap()]
}

#[test]
fn pjrt_runs_a_program_and_donates_what_it_is_told_to() {
    let Some(client) = client(1) else { return };
    assert_eq!(client.platform(), "cpu");
    assert_eq!(client.devices().len(), 1);
    let program = client.compile(AXPY, &CompileOptions::default()).unwrap();
    assert_eq!((program.outputs(), program.partitions()), (2, 1));
    assert!(program.memory().unwrap().arguments >= 32);
    let (x, y) = (upload(&client, &[1.0, 2.0, 3.0, 4.0]), upload(&client, &[0.5; 4]));
    for _ in 0..2 {
        // Shared arguments keep their elements although the program may overwrite the first.
        let out = program.run(vec![Argument::Shared(&x), Argument::Shared(&y)]).unwrap();
        assert_eq!(out[0][0].download::<f32>(4).unwrap(), [2.5, 4.5, 6.5, 8.5]);
        assert_eq!(out[1][0].download::<f32>(1).unwrap(), [22.0]);
    }
    let out = program.run(vec![Argument::Donated(x), Argument::Shared(&y)]).unwrap();
    out[0][0].wait().unwrap();
    assert_eq!(out[0][0].download::<f32>(4).unwrap(), [2.5, 4.5, 6.5, 8.5]);
}

#[test]
fn pjrt_leaves_no_buffer_behind() {
    let Some(client) = client(1) else { return };
    let program = client.compile(AXPY, &CompileOptions::default()).unwrap();
    let y = upload(&client, &[1.0; 4]);
    for round in 0..100 {
        let x = upload(&client, &[round as f32; 4]);
        let out = program.run(vec![Argument::Donated(x), Argument::Shared(&y)]).unwrap();
        assert_eq!(client.live_buffers(), 3);
        assert_eq!(out[1][0].download::<f32>(1).unwrap(), [8.0 * round as f32 + 4.0]);
    }
    // A run that fails leaves none either.
    assert!(program.run(vec![Argument::Shared(&y)]).is_err());
    assert_eq!(client.live_buffers(), 1);
    drop(y);
    assert_eq!(client.live_buffers(), 0);
}

#[test]
fn pjrt_partitions_a_program_over_devices() {
    let Some(client) = client(4) else { return };
    assert_eq!(client.devices().len(), 4);
    let text = r#"
module @sum attributes {mhlo.num_partitions = 4 : i32, mhlo.num_replicas = 1 : i32} {
  sdy.mesh @mesh = <["d"=4]>
  func.func public @main(%x: tensor<8xf32> {sdy.sharding = #sdy.sharding<@mesh, [{"d"}]>}) -> (tensor<f32> {sdy.sharding = #sdy.sharding<@mesh, []>}) {
    %zero = stablehlo.constant dense<0.0> : tensor<f32>
    %total = stablehlo.reduce(%x init: %zero) applies stablehlo.add across dimensions = [0] : (tensor<8xf32>, tensor<f32>) -> tensor<f32>
    return %total : tensor<f32>
  }
}"#;
    let program = client.compile(text, &CompileOptions { partitions: 4, xla: vec![] }).unwrap();
    let x: Vec<Buffer> = (0..4u8).map(|d| client.upload(&[f32::from(d), 1.0], &[2], usize::from(d)).unwrap()).collect();
    let out = program.run(vec![Argument::Shared(&x)]).unwrap();
    assert_eq!(out[0].len(), 4);
    assert!(out[0].iter().all(|part| part.download::<f32>(1).unwrap() == [10.0]));
    let refused = program.run(vec![Argument::Shared(&x[..2])]).unwrap_err();
    assert_eq!(refused.to_string(), "argument 0 has 2 parts, the program runs on 4");
}

#[test]
fn pjrt_executables_survive_serialisation() {
    let Some(client) = client(1) else { return };
    let bytes = client.compile(AXPY, &CompileOptions::default()).unwrap().serialize().unwrap();
    let program = client.deserialize(&bytes).unwrap();
    let (x, y) = (upload(&client, &[1.0; 4]), upload(&client, &[0.5; 4]));
    let out = program.run(vec![Argument::Donated(x), Argument::Shared(&y)]).unwrap();
    assert_eq!(out[0][0].download::<f32>(4).unwrap(), [2.5; 4]);
    assert!(client.deserialize(b"not an executable").is_err());
}

#[test]
fn pjrt_reports_what_the_plugin_says() {
    let Some(client) = client(1) else { return };
    let failed = client.compile("module { nonsense }", &CompileOptions::default()).unwrap_err();
    assert!(matches!(failed, Error::Plugin { function: "PJRT_Client_Compile", .. }), "{failed}");
    let program = client.compile(AXPY, &CompileOptions::default()).unwrap();
    let short = upload(&client, &[1.0; 3]);
    let failed = program.run(vec![Argument::Shared(&short), Argument::Shared(&short)]).unwrap_err();
    assert!(matches!(failed, Error::Plugin { .. }), "{failed}");
    assert!(client.upload(&[1.0f32; 3], &[4], 0).is_err());
    assert!(client.upload(&[1.0f32; 4], &[4], 7).is_err());
    assert!(short[0].download::<f32>(4).is_err());
}

#[test]
fn pjrt_refuses_libraries_that_are_no_plugins() {
    let missing = Plugin::load(Path::new("/nonexistent/plugin.so"), &[]).unwrap_err();
    assert!(matches!(missing, Error::Open { .. }), "{missing}");
    let dir = std::env::temp_dir().join(format!("templar-no-plugin-{}", std::process::id()));
    std::fs::write(&dir, b"not a library").unwrap();
    let broken = Plugin::load(&dir, &[]).unwrap_err();
    std::fs::remove_file(&dir).unwrap();
    assert!(matches!(broken, Error::Open { .. }), "{broken}");
}

#[test]
fn pjrt_profiles_what_runs() {
    let Some(client) = client(1) else { return };
    let program = client.compile(AXPY, &CompileOptions::default()).unwrap();
    let (x, y) = (upload(&client, &[1.0; 4]), upload(&client, &[0.5; 4]));
    let profiler = match client.profile() {
        Ok(profiler) => profiler,
        Err(Error::Missing { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let out = program.run(vec![Argument::Shared(&x), Argument::Shared(&y)]).unwrap();
    out[0][0].wait().unwrap();
    let spans = templar_pjrt::spans(&profiler.finish().unwrap()).unwrap();
    assert!(spans.iter().any(|span| span.duration_ns > 0), "{spans:?}");
}

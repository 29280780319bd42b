#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| conductor_gateway::properties::model_stream(bytes));

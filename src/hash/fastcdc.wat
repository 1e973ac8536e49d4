;; The part of FastCDC (2020) that looks at every byte: where the rolling hash has no bit of the mask, there is a cut.
;; Compiled into fastcdc-wasm.ts by `npm run generate`.
(module
  ;; At 0 the gear, 256 integers of 64 bits; at 2,048 the gear shifted left by one, for the first of every two bytes; from 4,096 on what is looked at.
  (memory (export "memory") 7)
  ;; Of the bytes so far, when none of them was a cut.
  (global $hash (export "hash") (mut i64) (i64.const 0))
  ;; The first cut from $from on, before $to, or -1. $from is even; of an odd number of bytes the last is not looked at.
  (func (export "find") (param $from i32) (param $to i32) (param $mask i64) (param $hash_before i64) (result i32)
    (local $rolling i64)
    (local $shifted i64)
    (local.set $rolling (local.get $hash_before))
    (local.set $shifted (i64.shl (local.get $mask) (i64.const 1)))
    (local.set $to (i32.and (local.get $to) (i32.const -2)))
    (block $end
      (loop $two
        (br_if $end (i32.ge_u (local.get $from) (local.get $to)))
        (local.set $rolling
          (i64.add
            (i64.shl (local.get $rolling) (i64.const 2))
            (i64.load offset=2048 (i32.shl (i32.load8_u offset=4096 (local.get $from)) (i32.const 3)))))
        (if (i64.eqz (i64.and (local.get $rolling) (local.get $shifted)))
          (then (return (local.get $from))))
        (local.set $rolling
          (i64.add
            (local.get $rolling)
            (i64.load (i32.shl (i32.load8_u offset=4097 (local.get $from)) (i32.const 3)))))
        (if (i64.eqz (i64.and (local.get $rolling) (local.get $mask)))
          (then (return (i32.add (local.get $from) (i32.const 1)))))
        (local.set $from (i32.add (local.get $from) (i32.const 2)))
        (br $two)))
    (global.set $hash (local.get $rolling))
    (i32.const -1)))

/* What a fuzz target provides. Built twice: with libFuzzer (-Dfuzz=true, clang), and with
 * fuzz_main.c as an ordinary test that replays a corpus and seeded damage to it. */
#ifndef EBB_TESTS_FUZZ_FUZZ_H
#define EBB_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Runs the code under test on any bytes. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* For targets whose corpus is made, not stored: seed i, malloc'd; NULL past the last one. */
__attribute__((weak)) uint8_t *fuzz_seed(unsigned i, size_t *ret_n);

#endif

/* Raspberry Pi: what its firmware says about voltage and throttling, which no other file shows.
 * Under-voltage is a bad power supply or cable, not heat. */
#ifndef EBB_DAEMON_SENSE_RPI_H
#define EBB_DAEMON_SENSE_RPI_H

#include "daemon/sense_file.h"
#include "daemon/sense_folder.h"
#include "daemon/sense_text.h"

struct err;

/* As in the firmware's documentation; the same 16 bits higher: at some time since boot. */
enum {
    SENSE_RPI_UNDER_VOLTAGE = 1 << 0,
    SENSE_RPI_CAPPED = 1 << 1,
    SENSE_RPI_THROTTLED = 1 << 2,
    SENSE_RPI_SOFT_LIMIT = 1 << 3,
    SENSE_RPI_NOW = 0xf,
    SENSE_RPI_SINCE_BOOT = 0xf << 16,
};

/* Where the files were found, as they lie elsewhere on each board, and their descriptors. */
struct sense_rpi {
    char throttled[SENSE_MAX_PATH]; /* "" = not found yet */
    char alarm[SENSE_MAX_PATH];
    struct sense_file throttled_file, alarm_file;
    struct sense_folder platform, hwmon;
    bool has_searched;
    uint64_t searched_us;
};

void sense_rpi_init(struct sense_rpi *at);
void sense_rpi_close(struct sense_rpi *at); /* accepts one that was closed */

/* True if these bits say that the firmware slows the processor for heat now. With under-voltage it
 * does the same for the supply, which is not heat; the soft limit is of temperature alone. Pure. */
bool sense_rpi_is_hot(uint32_t bits);

/* Hexadecimal with or without 0x, and a newline. Pure. 0 or -EBADMSG. */
int sense_rpi_parse(const char *text, size_t n, uint32_t *ret_bits, struct err *e) MUST_CHECK;

/* Reads get_throttled below <root>/sys/devices/platform, or else the alarm of hwmon rpi_volt, which
 * knows of under-voltage alone; *ret_mask has the bits that the answer can hold. While the first is
 * not found it is looked for again after three times sense_when.rescan_us (where the kernel's
 * folders have the same names, after more). `root` is the same at each call. 0, -ENODATA (neither
 * exists), -EBADMSG, -EAGAIN (not looked for yet, and nothing may be opened now) or the system's
 * errors. Blocks for as long as the firmware does. */
int sense_rpi_read(struct sense_rpi *at, const char *root, const struct sense_when *w,
                   uint32_t *ret_bits, uint32_t *ret_mask, struct err *e) MUST_CHECK;

#endif

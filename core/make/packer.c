/* main() of ebb-pack: finds the command, and says what there is. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/make/cmd.h"

/* clang-format off */
static const char help_main[] =
"ebb-pack: turns a GGUF model into a pack that ebb can serve at changing precision\n"
"\n"
"Usage:\n"
"  ebb-pack build SRC.gguf -o OUT.ebb [--calib TEXT[,self]] [--no-swsc] [--no-gate | --form NAME]\n"
"                [--fast] [--resume] [--windows N] [--threads N]\n"
"  ebb-pack inspect PACK [--importance | --gate] [--json]\n"
"  ebb-pack verify PACK\n"
"  ebb-pack plan PACK --bytes N [--ladder NAME] [--json]\n"
"  ebb-pack eval PACK (--text FILE | --self-text SEED) (--rung R[,R] | --position P[,P...])\n"
"                [--source SRC.gguf] [--compare OTHER.gguf]... [--windows N] [--threads N] [--json]\n"
"  ebb-pack eval PACK (--text FILE | --self-text SEED) --ladder NAME[,NAME...] [--from R]\n"
"                [--points N] [--csv FILE] [--svg FILE] [--source SRC.gguf] [--windows N]\n"
"                [--threads N] [--json]\n"
"  ebb-pack tokenize FILE < TEXT\n"
"  ebb-pack COMMAND --help | --help | --version\n"
"\n"
"Commands:\n"
"  build     calibrate and quantise a model, write the pack\n"
"  inspect   what is in a pack: units, bytes, ladders, importance\n"
"  verify    read all of a pack and check every checksum\n"
"  plan      what a pack is at a number of bytes: position, loss, the rung of every unit\n"
"  eval      perplexity of a pack, and its distance to the source, at positions or along ladders\n"
"  tokenize  token ids of the text on standard input\n"
"\n"
"A pack holds each layer (and the head) as two nested planes: the high plane alone reads as 4-bit\n"
"weights, both together as 8-bit ones. The ladder says in which order ebbd lets low planes go when\n"
"memory gets short; a position is a number of steps down it, 0 being everything at its best.\n"
"\n";

static const char help_exit[] =
"Exit codes:\n"
"  0   done\n"
"  1   failed for another reason than those below\n"
"  2   wrong usage\n"
"  65  a file is damaged, or not what it should be\n"
"  66  a file does not exist\n"
"  69  a valid file that ebb cannot use (architecture, tensor type, tokenizer, version)\n"
"  71  not enough memory\n"
"  74  reading or writing failed, or the disk is full\n"
"  75  another ebb-pack writes the same output\n"
"  77  permission denied\n";

static const char help_build[] =
"Usage: ebb-pack build SRC.gguf -o OUT.ebb [--calib TEXT[,self]] [--no-swsc]\n"
"                      [--no-gate | --form NAME] [--fast] [--resume] [--windows N] [--threads N]\n"
"\n"
"Reads a GGUF model (architecture llama; F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K\n"
"Q6_K IQ4_NL), runs it over a calibration text, and writes a pack whose weights are fitted to what\n"
"the model's matrices really see. The pack appears under its name only when it is complete.\n"
"\n"
"  -o, --output FILE  the pack to write\n"
"  --calib TEXT       UTF-8 text file to calibrate on; its beginning is used\n"
"  --calib self       text that the model writes itself: the default, needs nothing, takes longer\n"
"  --calib TEXT,self  half of the windows of each, in either order: the best choice for a model\n"
"                     that meets more than one kind of text\n"
"  --no-swsc          leave out the third form, about 3 bits a weight, that layers take below their\n"
"                     high plane. It takes about half of the time\n"
"  --no-gate          do not compare forms for it first (a minute or so for a model of 135M weights;\n"
"                     inspect --gate shows the result), take the default one\n"
"  --form NAME        likewise, but take this one for all matrices, by its name in inspect --gate\n"
"                     (channels-4+pair is SWSC as published, basis-4 is Basis Sharing)\n"
"  --fast             about a tenth of the time: clip search only, on 16 windows of 128 tokens; no\n"
"                     error feedback, so the 4-bit reading is coarser, and units scored on 4 of\n"
"                     these windows instead of 8 of 256 tokens; and no third form. The pack says\n"
"                     so\n"
"  --resume           go on where a build of the same pack was when it was killed or the power\n"
"                     failed; the pack is the same to the byte. It must have the same source, text\n"
"                     and options (--threads may differ) and starts anew if nothing was left. A\n"
"                     running build saves its state every few layers in FILE.state and\n"
"                     FILE.tmp.PID; a build of the same FILE without --resume removes them\n"
"  --windows N        windows of 512 tokens, 1 to 65536 (default 128 of a text, 64 by the model\n"
"                     itself, 96 of both; with --fast 16, of 128 tokens)\n"
"  --threads N        1 to 64 (default: one for each big core). The pack does not depend on it\n"
"\n"
"Memory: the model need not fit. One layer at a time is held as floats with the moments of its\n"
"inputs, beside the hidden states of all windows: 4 bytes x tokens x the model's width. Last, each\n"
"unit is lowered alone to see what the model's words lose by it (inspect --importance). Own samples\n"
"use up to 1.5 GiB for a larger model, which makes them faster. A model of 135M parameters takes\n"
"about 430 MB with a text.\n"
"\n";

static const char help_inspect[] =
"Usage: ebb-pack inspect PACK [--importance | --gate] [--json]\n"
"\n"
"Shows model, units, bytes and errors of each rung, ladders, calibration. Only the header is read\n"
"and checked; see ebb-pack verify.\n"
"\n"
"  --importance  how much each unit matters, by three measures, with their ranks and how far the\n"
"                orders agree:\n"
"                  jaccard  loss of overlap of the model's 30 likeliest words with this unit alone at\n"
"                           high, all others full; its ladder, which ebbd follows unless told\n"
"                           otherwise, is made of the share of pairs of words that are exchanged,\n"
"                           which adds up over units\n"
"                  kl       Kullback-Leibler divergence of the same predictions, in nats\n"
"                  lsaq     as published: overlap of the likeliest words of the hidden states before\n"
"                           and after the layer, at the last token of each text; the head is 1\n"
"  --gate        which forms were compared for the rung swsc, for each kind of matrix: the error that\n"
"                each leaves in the output at so many bits a weight, which one is taken, and by how\n"
"                much more error the next one is behind\n"
"  --json        one object: {\"model\", \"units\": [{\"name\", \"rungs\": {\"full\": {\"bytes\", \"kl\",\n"
"                \"jaccard\", \"error\"}, ...}, \"importance\": {\"lsaq\", \"jaccard\", \"kl\"}, \"rank\": the\n"
"                same}], \"agreement\": [{\"scores\", \"tau\"}], \"ladders\": {NAME: [{\"unit\", \"from\",\n"
"                \"to\", \"bytes\", \"cost\"}]}, \"gate\": [{\"kind\", \"winner\", \"margin\",\n"
"                \"candidates\": [{\"name\", \"bits\", \"error\", \"can_win\"}]}], \"source\",\n"
"                \"calibration\", \"method\", \"fallback\"}; null where something was not measured.\n"
"                kl, jaccard: with the unit alone at the rung, against all full. error: mean squared\n"
"                error of the unit's outputs on the calibration text, as a share of their mean square\n"
"\n";

static const char help_verify[] =
"Usage: ebb-pack verify PACK\n"
"\n"
"Reads every byte of the pack, checks all checksums and that each matrix lies where the model needs\n"
"it. Exit code 0 if the pack is whole, 65 if it is damaged.\n"
"\n";

static const char help_plan[] =
"Usage: ebb-pack plan PACK --bytes N [--ladder NAME] [--json]\n"
"\n"
"The position of the ladder that fits the bytes, what it costs, and the rung of each unit. The bytes\n"
"are those of weights and core vectors, what ebbd shows as resident_bytes; its budget also holds KV\n"
"cache and scratch. The bound is what no choice of rungs of this size can lose less than: every unit\n"
"for itself at one price for a byte, the last one in part. The gap to it says what a better order,\n"
"or one that is not a ladder, could still save.\n"
"\n"
"  --bytes N      bytes, or with KiB, MiB or GiB behind the number\n"
"  --ladder NAME  one of the pack's (default: jaccard, or its first one)\n"
"  --json         {\"ladder\", \"budget_bytes\", \"bytes\", \"core_bytes\", \"position\", \"positions\",\n"
"                 \"loss\", \"bound\", \"gap\", \"price\", \"rungs\": {\"full\": units, ...}, \"units\":\n"
"                 [{\"name\", \"rung\", \"bytes\"}]}; loss in the score that made the ladder, price\n"
"                 in loss for a byte; bound, gap and price are null where units are paged\n"
"\n"
"Exit code 1 if even the last position takes more bytes; the message says how many.\n"
"\n";

static const char help_eval[] =
"Usage: ebb-pack eval PACK (--text FILE | --self-text SEED) (--rung R[,R] | --position P[,P...])\n"
"                     [--source SRC.gguf] [--compare OTHER.gguf]... [--windows N] [--threads N]\n"
"                     [--json]\n"
"       ebb-pack eval PACK (--text FILE | --self-text SEED) --ladder NAME[,NAME...] [--from R]\n"
"                     [--points N] [--csv FILE] [--svg FILE] [--source SRC.gguf] [--windows N]\n"
"                     [--threads N] [--json]\n"
"\n"
"Runs the pack, exactly as ebbd computes, over windows of 512 tokens and scores the second half of\n"
"each: perplexity and, with the source, the mean Kullback-Leibler divergence from the source's\n"
"predictions, how often both find the same likeliest word, and the Jaccard loss of the sets of the\n"
"30 likeliest words. The source's predictions are made once for all that is judged, so several\n"
"rungs, files and ladders together take less time than apart.\n"
"\n"
"  --text FILE        UTF-8 text to judge on; not the one it was calibrated on\n"
"  --self-text SEED   or: a text that the source writes itself, as build does without --calib, which\n"
"                     takes seed 1: choose another one\n"
"  --rung R[,R]       full, high or swsc: every unit at this rung; the head has no swsc, it stays\n"
"                     high then\n"
"  --position P,...   or: the pack's first ladder taken P steps down\n"
"  --ladder NAME,...  or: ladders, from every unit full to every unit high. Names of the pack's or of\n"
"                     orders that are made to compare with: front (first layers first), back,\n"
"                     random:SEED (these three leave the head for last), oracle (by what each unit\n"
"                     alone costs on the very text that is judged, for each byte it frees)\n"
"  --from R           full, or high: then from every unit high to every unit swsc that can be\n"
"  --points N         positions of each ladder, 2 to 32 (default 11), at even sizes as far as its\n"
"                     steps allow, ends included\n"
"  --csv FILE         all of them as a table\n"
"  --svg FILE         and as a picture: KL over bytes, one line a ladder\n"
"  --source SRC.gguf  the model the pack was made from\n"
"  --compare FILE     another GGUF of the same model, quantised by another program (any type that\n"
"                     build reads). Its weights are read exactly and its activations are floats,\n"
"                     which favours it: the pack's are 8-bit, as where it serves. Up to 32 times\n"
"  --windows N        1 to 65536 (default 128, or 32 with --self-text); fewer if the text is shorter\n"
"  --threads N        1 to 64 (default: one for each big core)\n"
"  --json             {\"ppl\", \"kl\", \"top1\", \"jaccard\", \"bits_per_weight\", \"bytes\", \"windows\",\n"
"                     \"layer_bits_per_weight\" (without the head), \"source_ppl\", \"position\" (null\n"
"                     if no position of the ladder is all at the rung), \"tokens\"} of the first one;\n"
"                     \"positions\": all of them; \"compare\": [{\"file\", ...}];\n"
"                     \"units\": [{\"name\", \"high_error\", \"full_error\"}], weighted output errors that\n"
"                     build has measured. kl, top1, jaccard and source_ppl are null without --source\n"
"\n"
"With --ladder and without --source all is judged by the pack itself at position 0. Told of each\n"
"ladder is its mean KL at nine even sizes inside the section and, where random orders and the oracle\n"
"are among the ladders, how much of the way from the mean of the former to the latter it goes, with\n"
"the standard error over eight parts of the text. JSON: {\"windows\", \"tokens\", \"reference\",\n"
"\"reference_ppl\", \"section\": {\"from\", \"to\", \"top_bytes\", \"bottom_bytes\"}, \"random\": {\"orders\",\n"
"\"area\"}, \"ladders\": [{\"name\", \"area\", \"share\", \"share_error\", \"points\": [{\"position\",\n"
"\"bytes\", \"bits_per_weight\", \"ppl\", \"kl\", \"top1\", \"jaccard\", \"units\": {\"full\": units, ...}}]}]}.\n"
"\n";

static const char help_tokenize[] =
"Usage: ebb-pack tokenize FILE < TEXT\n"
"\n"
"Prints the token ids of the text on standard input, separated by spaces, as the tokenizer in FILE\n"
"(a GGUF model or a pack) cuts it. What looks like a special token is ordinary text; no BOS is put\n"
"in front.\n"
"\n";
/* clang-format on */

struct command {
    const char *name, *help;
    int (*run)(const struct cmd_env *env, int argc, char **argv);
};

static const struct command commands[] = {
    {"build", help_build, cmd_build}, {"inspect", help_inspect, cmd_inspect},
    {"plan", help_plan, cmd_plan},    {"verify", help_verify, cmd_verify},
    {"eval", help_eval, cmd_eval},    {"tokenize", help_tokenize, cmd_tokenize},
};

static bool asks_for_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

static int run(const struct cmd_env *env, int argc, char **argv) {
    if (argc < 2) {
        fputs(help_main, stderr);
        return CMD_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("ebb-pack " EBB_VERSION);
        return CMD_OK;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(help_main, stdout);
        fputs(help_exit, stdout);
        return CMD_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        if (argc == 3 && strcmp(argv[2], "--version") == 0) {
            puts("ebb-pack " EBB_VERSION);
            return CMD_OK;
        }
        if (asks_for_help(argc - 2, argv + 2)) {
            fputs(commands[i].help, stdout);
            fputs(help_exit, stdout);
            return CMD_OK;
        }
        return commands[i].run(env, argc - 2, argv + 2);
    }
    return cmd_usage(env, "unknown command '%.60s'", argv[1]);
}

int main(int argc, char **argv) {
    /* A limit on file size is an error of the write, not the end of us. */
    signal(SIGXFSZ, SIG_IGN);
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    bool is_terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    struct cmd_env env = {.program = "ebb-pack",
                          .is_terminal = is_terminal,
                          .has_colour = is_terminal && !(no_colour && *no_colour)};
    return cmd_end(&env, run(&env, argc, argv));
}

/* SPDX-License-Identifier: GPL-2.0-only */
/* What iterators have in common: they write records that user space reads. */
#ifndef TWTRACE_ITERATOR_H
#define TWTRACE_ITERATOR_H

struct seq_file;

/* include/uapi is silent on the contexts; the layout is what the verifier checks. */
struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
};

/* Helpers newer than the BCC of Debian 12 knows by name. */
static long (*seq_write)(struct seq_file *seq, const void *data, u32 len) = (void *)127;

#endif

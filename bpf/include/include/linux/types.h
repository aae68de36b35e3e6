/* SPDX-License-Identifier: GPL-2.0-only */
/* Empty: BCC includes it by name; include/linux/kconfig.h has all we need. */

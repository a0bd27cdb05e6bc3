/* Makes a process believe that its processor has AVX2 but neither AVX-512 nor AMX.
 *
 * Numerical libraries choose their kernels by asking the CPUID instruction, which on Intel's
 * processors Linux can forbid (arch_prctl(2), ARCH_SET_CPUID). It then raises SIGSEGV; the handler
 * here executes it, takes out what is to be hidden, and goes on behind it. Loaded with LD_PRELOAD,
 * so before any library asks; threads and forks inherit it. Bits are those of Intel's manual,
 * volume 2A, CPUID, leaf 7.
 *
 * Who else sets a handler of SIGSEGV (Python's faulthandler) gets the faults that are not CPUID's.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012, CANNOT = 77 };

#define BIT(n) (1u << (n))

typedef int set_action(int, const struct sigaction *, struct sigaction *);

static struct sigaction others; /* what is done about other faults */
static volatile sig_atomic_t faulted; /* there has been one: handlers are libc's business again */

static set_action *libc_sigaction(void) { return (set_action *)dlsym(RTLD_NEXT, "sigaction"); }

int sigaction(int signal, const struct sigaction *wanted, struct sigaction *old) {
  if (signal != SIGSEGV || faulted) return libc_sigaction()(signal, wanted, old);
  struct sigaction current = others;
  if (wanted) others = *wanted;
  if (old) *old = current;
  return 0;
}

static long permit(int cpuid) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, cpuid); }

static void answer(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *code = (const uint8_t *)registers[REG_RIP];
  if (code[0] != 0x0f || code[1] != 0xa2) { /* a real fault: raised again */
    faulted = 1;
    libc_sigaction()(SIGSEGV, &others, NULL);
    return;
  }
  uint32_t leaf = registers[REG_RAX], part = registers[REG_RCX], a, b, c, d;
  permit(1);
  __cpuid_count(leaf, part, a, b, c, d);
  permit(0);
  if (leaf == 7 && part == 0) {
    /* AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL */
    b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
    /* VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ */
    c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
    /* 4VNNIW, 4FMAPS, VP2INTERSECT, AMX BF16, FP16, AMX TILE, INT8 */
    d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
  } else if (leaf == 7 || leaf == 0x24) { /* what came later: AVX-VNNI, BF16, AVX10 */
    a = b = c = d = 0;
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  libc_sigaction()(SIGSEGV, &action, &others);
  if (permit(0)) _exit(CANNOT);
}

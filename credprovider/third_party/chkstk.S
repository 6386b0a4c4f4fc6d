/*
 * The compiler calls this before it takes more than a page of stack. Windows
 * commits a stack page by page, when the guard page below it is touched, so a
 * larger step down must touch every page on its way. No other register and no
 * memory may change; the stack pointer is moved by the caller.
 * ("x64 prolog and epilog"; "Overview of ARM64 ABI conventions", Stack)
 */
#if defined(__x86_64__)
	/* rax: how many bytes are wanted */
	.globl	___chkstk_ms
	.def	___chkstk_ms
	.scl	2
	.type	32
	.endef
	.seh_proc ___chkstk_ms
___chkstk_ms:
	pushq	%rcx
	.seh_pushreg %rcx
	pushq	%rdx
	.seh_pushreg %rdx
	.seh_endprologue
	leaq	24(%rsp), %rcx		/* the stack pointer as it is, */
	movq	%rcx, %rdx
	subq	%rax, %rdx		/* and as it will be */
	jmp	2f
1:	testb	$0, (%rcx)
2:	subq	$4096, %rcx
	cmpq	%rdx, %rcx
	ja	1b
	testb	$0, (%rdx)
	popq	%rdx
	popq	%rcx
	retq
	.seh_endproc
#elif defined(__aarch64__)
	/* x15: how many times 16 bytes are wanted; x16 and x17 are ours */
	.globl	__chkstk
	.def	__chkstk
	.scl	2
	.type	32
	.endef
	.p2align 2
__chkstk:
	mov	x17, sp			/* the stack pointer as it is, */
	sub	x16, x17, x15, lsl #4	/* and as it will be */
	b	2f
1:	ldrb	wzr, [x17]
2:	sub	x17, x17, #1, lsl #12
	cmp	x17, x16
	b.hi	1b
	ldrb	wzr, [x16]
	ret
#else
#error "no stack probe for this architecture"
#endif

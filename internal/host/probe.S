# Boot sector of the KVM probe: enters 64-bit mode, counts, and ends QEMU through isa-debug-exit.
	.code16
	.globl _start
_start:
	cli
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $0x7000, %sp
	inb $0x92, %al			# A20
	orb $2, %al
	outb %al, $0x92
	# Page tables at 0x1000: the first 2 MiB, one large page.
	movw $0x1000, %di
	xorl %eax, %eax
	movw $0xc00, %cx
	cld
	rep stosl
	movl $0x2003, 0x1000
	movl $0x3003, 0x2000
	movl $0x0083, 0x3000
	movl $0x1000, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x20, %eax			# PAE
	movl %eax, %cr4
	movl $0xc0000080, %ecx		# EFER.LME
	rdmsr
	orl $0x100, %eax
	wrmsr
	lgdt gdtr
	movl %cr0, %eax
	orl $0x80000001, %eax		# paging and protection at once
	movl %eax, %cr0
	ljmp $8, $long
	.code64
long:
	movl $300000000, %ecx
1:	decl %ecx
	jnz 1b
	movb $0x2a, %al
	outb %al, $0xf4
2:	hlt
	jmp 2b
	.balign 8
gdt:	.quad 0, 0x00209a0000000000
gdtr:	.word 15
	.long gdt
	.org 510
	.word 0xaa55

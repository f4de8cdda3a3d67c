# The guest of the KVM probe: one boot sector that goes the way every kernel goes (protected mode, paging, long mode)
# and then says "V" to the debug console and ends QEMU with exit code 33.
#
#   as --32 -o guest.o guest.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
#
# Page tables at 0x1000 (PML4), 0x2000 (PDPT), 0x3000 (PD): the first 2 MiB as one large page.
    .code16
    .globl _start
_start:
    cli
    cld
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movw    $0x7c00, %sp
    movw    $0x1000, %di
    movw    $0x1800, %cx
    rep stosw
    movw    $0x2003, 0x1000
    movw    $0x3003, 0x2000
    movw    $0x0083, 0x3000
    lgdt    gdt_pointer
    movl    $0x20, %eax                 # CR4.PAE
    movl    %eax, %cr4
    movl    $0x1000, %eax
    movl    %eax, %cr3
    movl    $0xc0000080, %ecx           # EFER.LME
    rdmsr
    orl     $0x100, %eax
    wrmsr
    movl    %cr0, %eax
    orl     $0x80000001, %eax           # CR0.PG, CR0.PE
    movl    %eax, %cr0
    ljmpw   $8, $long_mode

    .code32                             # bytes below run as 64-bit code; they mean the same there
long_mode:
    movl    $0x10, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    .byte   0x48, 0xb8, 0x56, 0, 0, 0, 0x01, 0, 0, 0   # movabs $0x100000056, %rax: only 64-bit code reads it as one
    .byte   0x48, 0xc1, 0xe8, 0x20      # shr $32, %rax
    addl    $0x55, %eax                 # 1 + 0x55 = 'V'
    outb    %al, $0xe9
    movb    $0x10, %al
    outb    %al, $0xf4                  # isa-debug-exit: (0x10 << 1) | 1 = 33
halt:
    hlt
    jmp     halt

    .balign 8
gdt:
    .quad   0
    .quad   0x00af9a000000ffff          # 64-bit code
    .quad   0x00cf92000000ffff          # data
gdt_pointer:
    .word   23
    .long   gdt

    .org    510
    .word   0xaa55

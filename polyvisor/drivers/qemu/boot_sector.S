# A guest of a few instructions, by which the probe tells whether a virt type runs guests at all.
#
# The firmware loads the first sector; it reads the rest, then goes the way of every kernel of a 64-bit system, and
# writes a line on the first serial port after each step:
#
#   real mode        the firmware has handed over, its disk service has read the other sectors
#   protected mode   a descriptor table of our own is loaded
#   long mode        paging is on, by tables of our own, with EFER set through its MSR
#   exceptions       an invalid instruction and a page fault reach their handlers, and execution goes on after both
#   user mode        SYSRET enters ring 3, whose SYSCALL comes back by the MSR that names its entry
#   timer            three interrupts of the timer have ended HLT
#   works            nothing is left to try; the guest halts
#
# Assemble with tools/assemble_boot_sector.py, which writes boot_sector.bin beside this file. The addresses that are
# used besides the code's: 0x10000 page tables, 0x14000 interrupt table, 0x20000 the page of the page fault.

        .intel_syntax noprefix
        .set    LOAD, 0x7c00
        .set    SECTORS, 4
        .set    PML4, 0x10000
        .set    PDPT, 0x11000
        .set    DIRECTORY, 0x12000
        .set    TABLE, 0x13000
        .set    INTERRUPTS, 0x14000
        .set    FRAME, 0x20000                  # the memory behind PAGE once the fault was handled
        .set    PAGE, 0x200000                  # an address that is not mapped at first
        .set    SERIAL, 0x3f8
        .set    CODE32, 0x08
        .set    DATA, 0x10
        .set    CODE64, 0x18
        .set    USER, 0x20                      # SYSRET takes data from +8 and code from +16, SYSCALL from CODE64 on
        .set    EFER, 0xc0000080
        .set    STAR, 0xc0000081
        .set    LSTAR, 0xc0000082
        .set    SFMASK, 0xc0000084
        .set    TICKS, 3

# Writes the text at (r/e)si; the same instructions serve in all three modes.
        .macro  printer name
\name:  lodsb
        test    al, al
        jz      2f
        mov     ah, al
        mov     dx, SERIAL + 5
1:      in      al, dx
        test    al, 0x20
        jz      1b
        mov     dx, SERIAL
        mov     al, ah
        out     dx, al
        jmp     \name
2:      ret
        .endm

        .code16
        .globl  _start
_start: cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, LOAD
        ljmp    0, offset begin
begin:  sti                                     # the firmware may wait for an interrupt
        mov     ah, 0x42                        # its disk service; dl is still the drive that we came from
        mov     si, offset packet
        int     0x13
        cli
        jc      failed
        mov     si, offset real
        call    print16
        in      al, 0x92                        # the address line 20, should the firmware have left it off
        or      al, 2
        and     al, 0xfe
        out     0x92, al
        mov     eax, 0x80000001
        cpuid
        bt      edx, 29
        jnc     failed
        lgdt    [table]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        ljmp    CODE32, offset protected_mode
failed: mov     si, offset wrong
        call    print16
        hlt
        jmp     failed
        printer print16

        .balign 4, 0                            # without a value assemblers pad with instructions of their choice
packet: .byte   16, 0
        .word   SECTORS - 1, LOAD + 512, 0      # sectors, offset, segment
        .quad   1                               # the first of them
descriptors:
        .quad   0
        .quad   0x00cf9a000000ffff              # CODE32
        .quad   0x00cf92000000ffff              # DATA
        .quad   0x00af9a000000ffff              # CODE64
        .quad   0x00cf92000000ffff              # USER: the data that belongs to CODE64
        .quad   0x00cff2000000ffff              # USER + 8: data
        .quad   0x00affa000000ffff              # USER + 16: code
table:  .word   table - descriptors - 1
        .long   descriptors
wrong:  .asciz  "boot sector: the disk cannot be read, or the CPU has no long mode\n"
real:   .asciz  "boot sector: real mode\n"
        .org    510
        .word   0xaa55

        .code32
protected_mode:
        mov     ax, DATA
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, LOAD
        mov     esi, offset protected
        call    print32
        mov     edi, PML4                       # the tables up to INTERRUPTS and the page after it, all empty
        xor     eax, eax
        mov     ecx, 5 * 1024
        rep stosd
        mov     dword ptr [PML4], PDPT + 7      # 7: present, writable, for ring 3 too
        mov     dword ptr [PDPT], DIRECTORY + 7
        mov     dword ptr [DIRECTORY], 0x87     # the first 2 MiB as they are, in one page
        mov     dword ptr [DIRECTORY + 8], TABLE + 7
        mov     eax, cr4
        or      eax, 0x20                       # PAE
        mov     cr4, eax
        mov     eax, PML4
        mov     cr3, eax
        mov     ecx, EFER
        rdmsr
        or      eax, 0x101                      # long mode, SYSCALL
        wrmsr
        mov     eax, cr0
        or      eax, 0x80010000                 # paging, and write protection for ring 0
        mov     cr0, eax
        ljmp    CODE64, offset long_mode
        printer print32

        .code64
long_mode:
        mov     ecx, EFER
        rdmsr
        bt      eax, 10                         # the CPU says that long mode is active
        jnc     stop
        mov     esi, offset long
        call    print64

        mov     ecx, 6                          # invalid instruction
        mov     eax, offset invalid
        call    handle
        mov     ecx, 14                         # page fault
        mov     eax, offset fault
        call    handle
        mov     ecx, 32                         # the timer, once the interrupt controller is told so
        mov     eax, offset tick
        call    handle
        lidt    [interrupts]
        xor     ebx, ebx                        # what the handlers count in
        ud2
        mov     edi, PAGE
        mov     eax, 0x12345678
        mov     [rdi + 64], eax                 # faults; the handler maps the page
        cmp     [FRAME + 64], eax
        jne     stop
        cmp     ebx, 2
        jne     stop
        mov     esi, offset exceptions
        call    print64

        mov     ecx, STAR
        mov     edx, (USER << 16) | CODE64
        xor     eax, eax
        wrmsr
        mov     ecx, LSTAR
        xor     edx, edx
        mov     eax, offset called
        wrmsr
        xor     eax, eax
        rdmsr
        cmp     eax, offset called
        jne     stop
        mov     ecx, SFMASK
        mov     eax, 0x200
        xor     edx, edx
        wrmsr
        mov     ecx, offset ring3
        mov     r11d, 2
        sysretq
ring3:  mov     eax, cs
        and     eax, 3
        add     ebx, eax
        syscall
        jmp     ring3
called: cmp     ebx, 5
        jne     stop
        mov     ax, DATA
        mov     ss, ax
        mov     esi, offset user
        call    print64

        mov     esi, offset commands            # interrupts 32 and up, from line 0 alone; 100 a second
1:      lodsb
        movzx   edx, al
        test    edx, edx
        jz      2f
        lodsb
        out     dx, al
        jmp     1b
2:      xor     ebx, ebx
3:      sti
        hlt
        cli
        cmp     ebx, TICKS
        jb      3b
        mov     esi, offset timer
        call    print64
        mov     esi, offset works
        call    print64
stop:   cli
        hlt
        jmp     stop
        printer print64

handle: shl     ecx, 4                          # has interrupt ecx handled at eax
        mov     [INTERRUPTS + rcx], ax
        mov     word ptr [INTERRUPTS + rcx + 2], CODE64
        mov     word ptr [INTERRUPTS + rcx + 4], 0x8e00
        shr     eax, 16
        mov     [INTERRUPTS + rcx + 6], ax
        ret
invalid:
        inc     ebx
        add     qword ptr [rsp], 2              # go on after UD2
        iretq
fault:  push    rax
        mov     rax, cr2
        cmp     rax, PAGE + 64
        jne     stop
        inc     ebx
        mov     dword ptr [TABLE], FRAME + 7
        pop     rax
        add     rsp, 8                          # the error code
        iretq
tick:   push    rax
        inc     ebx
        mov     al, 0x20
        out     0x20, al
        pop     rax
        iretq

        .balign 4, 0                            # without a value assemblers pad with instructions of their choice
interrupts:
        .word   33 * 16 - 1
        .quad   INTERRUPTS
commands:                                       # (port, value) pairs: two interrupt controllers, then the timer
        .byte   0x20, 0x11, 0x21, 32, 0x21, 4, 0x21, 1, 0x21, 0xfe
        .byte   0xa0, 0x11, 0xa1, 40, 0xa1, 2, 0xa1, 1, 0xa1, 0xff
        .byte   0x43, 0x34, 0x40, 0x9c, 0x40, 0x2e, 0
protected:      .asciz  "boot sector: protected mode\n"
long:           .asciz  "boot sector: long mode\n"
exceptions:     .asciz  "boot sector: exceptions\n"
user:           .asciz  "boot sector: user mode\n"
timer:          .asciz  "boot sector: timer\n"
works:          .asciz  "boot sector: works\n"
        .org    SECTORS * 512

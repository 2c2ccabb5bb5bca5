; The smallest guest: two system calls, no libc, no loader.
;
;   nasm -f elf64 hello.asm -o hello.o && ld -s -n hello.o -o hello

            global  _start

            section .text
_start:     mov     eax, 1                  ; write(
            mov     edi, 1                  ;   stdout,
            mov     esi, message            ;   message,
            mov     edx, message.length     ;   its length)
            syscall

            mov     eax, 60                 ; exit(
            xor     edi, edi                ;   0)
            syscall

            section .rodata
message:    db      "Hello, World", 10
.length:    equ     $ - message

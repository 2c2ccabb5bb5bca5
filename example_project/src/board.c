/* A notice board in shared memory (svipc(7)): "board post TEXT" adds a line to it, "board" reads it. */

#include <stdio.h>
#include <string.h>
#include <sys/shm.h>

int main(int argc, char **argv)
{
    int segment = shmget(0xb0a2d, 4096, IPC_CREAT | 0600);
    char *board = segment < 0 ? (void *)-1 : shmat(segment, NULL, 0);
    if (board == (void *)-1) {
        perror("board");
        return 1;
    }
    if (argc > 2)
        strcat(strcat(board, argv[2]), "\n");
    else
        fputs(board, stdout);
    return 0;
}

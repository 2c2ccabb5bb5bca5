/* A guest that needs company: the loader, libc and libm. */

#include <math.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    (void)argv;
    printf("Hello, World: the square root of 2 is %.3f\n", sqrt(argc + 1.0));
    return 0;
}

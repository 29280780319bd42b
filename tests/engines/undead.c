/* An engine whose orphans are hard to see, in C because it needs what Rust's standard library does not do.
 *
 * --input=half-dead: leaves a process whose first thread has ended while another lives; it looks like a zombie.
 * --input=chain: leaves a process without environment, in a session of its own, that forks and ends again and again.
 * --input=wait: runs until it is stopped.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *for_ever(void *nothing) {
  for (;;) pause();
  return nothing;
}

static int has(int count, char **words, const char *word) {
  for (int i = 1; i < count; i++)
    if (strcmp(words[i], word) == 0) return 1;
  return 0;
}

int main(int count, char **words) {
  if (has(count, words, "--as=chain")) {
    for (;;) {
      usleep(50 * 1000);
      if (fork() != 0) _exit(0);
    }
  }
  if (has(count, words, "--input=half-dead") && fork() == 0) {
    pthread_t thread;
    setsid();
    if (pthread_create(&thread, NULL, for_ever, NULL) == 0) pthread_exit(NULL);
    _exit(1);
  }
  if (has(count, words, "--input=chain") && fork() == 0) {
    char *arguments[] = {words[0], "--as=chain", NULL};
    char *environment[] = {NULL};
    setsid();
    if (fork() != 0) _exit(0);
    /* It must not hold the engine's output open. */
    freopen("/dev/null", "w", stdout);
    freopen("/dev/null", "w", stderr);
    execve(words[0], arguments, environment);
    _exit(1);
  }
  if (has(count, words, "--input=wait")) {
    puts("waiting");
    fflush(stdout);
    for_ever(NULL);
  }
  usleep(200 * 1000);
  puts("{\"status\": \"success\", \"output\": \"done\", \"metadata\": {}}");
  return 0;
}

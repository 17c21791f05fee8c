/** Two threads that wait for each other for ever. */
public class Locked {
    static final Object A = new Object(), B = new Object();

    static void take(Object first, Object second, String name) {
        new Thread(() -> {
            synchronized (first) {
                try { Thread.sleep(200); } catch (InterruptedException e) { return; }
                synchronized (second) { System.out.println("never"); }
            }
        }, name).start();
    }

    public static void main(String[] args) throws Exception {
        take(A, B, "invoice-1");
        take(B, A, "invoice-2");
        Thread.sleep(400);
        System.out.println("locked");
        Thread.sleep(120_000);
    }
}
